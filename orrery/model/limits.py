"""Whether the fields of a configuration are of their types and of a size that can be meant.

A dataclass built by hand checks nothing, and a config.json may say anything: text where a number belongs, NaN, a thousand
million layers. This is asked before anything is made in that size, and costs the same whatever the numbers are.
"""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from orrery.kit.errors import OrreryError

LONGEST = 1 << 16
"""Entries of a list."""

RANGES: dict[str, tuple[float, float]] = {
    "vocab_size": (1, 1 << 24),
    **dict.fromkeys(("d_model", "kv_lora_rank", "q_lora_rank", "latent_width"), (1, 1 << 18)),
    "d_ff": (1, 1 << 22),
    "shared_width": (0, 1 << 22),
    "n_layers": (1, 1 << 10),
    **dict.fromkeys(("n_heads", "n_kv_heads", "n_key_heads", "n_value_heads", "n_groups", "groups"), (1, 1 << 14)),
    **dict.fromkeys(("head_dim", "state_dim", "key_dim", "value_dim", "v_head_dim"), (1, 1 << 14)),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), (0, 1 << 14)),
    **dict.fromkeys(("n_experts", "top_k"), (1, 1 << 16)),
    **dict.fromkeys(("shared_experts", "mtp_heads", "first_dense_layers"), (0, 1 << 10)),
    **dict.fromkeys(("max_positions", "original_max_positions", "positions", "window"), (1, 1 << 31)),
    **dict.fromkeys(("conv_taps", "chunk", "buckets"), (1, 1 << 16)),
    **dict.fromkeys(("token_types", "offset"), (0, 1 << 16)),
    "start_id": (0, 1 << 24),
    "theta": (1.0 + 1e-6, 1e15),
    "fraction": (1e-6, 1.0),
    "norm_eps": (1e-30, 1.0),
    **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor"), (1e-3, 1e6)),
    **dict.fromkeys(("short_factor", "long_factor"), (1e-6, 1e6)),
    **dict.fromkeys(("beta_fast", "beta_slow"), (1e-6, 1e6)),
    **dict.fromkeys(("mscale", "mscale_all_dim", "beta"), (0.0, 1e6)),
    **dict.fromkeys(("attention_softcap", "logit_softcap", "attention_scale", "qkv_clip"), (1e-12, 1e9)),
    **dict.fromkeys(("embedding_scale", "logit_scale", "residual_scale"), (1e-12, 1e9)),
}  # fmt: skip
"""The least and the largest that can be meant, by the name of the field."""


def check_fields(cfg: Any, inside: str = "") -> None:
    """Every field of a configuration, those of the configurations in it too.

    Raises:
        OrreryError: names the field, what it says, and what it must be.
    """
    for name, hint in _hints(type(cfg)).items():
        value = getattr(cfg, name)
        if not _fits(value, hint):
            raise OrreryError(f"{inside}{name}={_shown(value)} must be {_described(hint)}")
        low, high = RANGES.get(name, (-math.inf, math.inf))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and type(number) is not bool and not low <= number <= high:
                rule = f"be at least {low:g}" if number < low else f"not be above {high:g}"
                raise OrreryError(f"{inside}{name}={_shown(number)} must {rule}")
        if dataclasses.is_dataclass(value):
            check_fields(value, f"{inside}{name}.")


@lru_cache(maxsize=64)
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Annotated:
        return _fits(value, args[0])
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if origin is tuple:
        same = args[-1] is Ellipsis
        right = isinstance(value, tuple) and (len(value) <= LONGEST if same else len(value) == len(args))
        return right and all(map(_fits, value, [args[0]] * len(value) if same else args))
    if hint is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if hint in (int, bool, str, type(None)):
        return type(value) is hint
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_described(arg) for arg in args))
    if origin is Annotated:
        return _described(args[0])
    if origin is Literal:
        return " or ".join(repr(arg) for arg in args)
    if origin is tuple:
        return f"a list, each {_described(args[0])}"
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        type(None): "null",
    }
    return names.get(hint) or f"a {hint.__name__}"


def _shown(value: Any) -> str:
    """A value in an error: short, whatever it is."""
    if type(value) is int and abs(value) >= 10**18:
        return f"a number of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
