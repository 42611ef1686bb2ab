"""What families with Mamba-2 layers share: the fields of config.json and the names of the tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Hf, Names
from orrery.model.families.llama_line import read_activation
from orrery.model.mamba2 import Mamba2

PLAIN = {
    "vocab_size": "vocab_size", "d_model": "hidden_size", "norm_eps": "layer_norm_epsilon", "tied": "tie_word_embeddings",
    "max_positions": "max_position_embeddings",
}  # fmt: skip
"""Our field of a model -> theirs."""

MIXER = {
    "n_heads": "num_heads", "head_dim": "head_dim", "state_dim": "state_size", "n_groups": "n_groups",
    "conv_taps": "conv_kernel", "conv_bias": "use_conv_bias", "bias": "use_bias", "chunk": "chunk_size",
}  # fmt: skip
"""Our field of a state-space layer -> theirs."""


def mixer_names(ours: str, theirs: str) -> Names:
    """The tensors of one state-space layer."""
    same = ("in_proj", "out_proj", "norm", "A_log", "dt_bias", "D")
    return {f"{ours}.conv": f"{theirs}.conv1d", **{f"{ours}.{name}": f"{theirs}.{name}" for name in same}}


def read_mixer(hf: Hf, fields: Mapping[str, str], activation: str = "hidden_act") -> Mamba2:
    """The state-space layers of a config that spells them as `fields` says.

    Raises:
        OrreryError: an activation that is not SiLU.
    """
    if read_activation(hf, activation) != "silu":
        raise OrreryError(
            f"config.json asks for {activation} '{hf[activation]}' in state-space layers; known is silu"
        )
    low, high = (_number(x) for x in hf.get("time_step_limit") or (0.0, math.inf))
    given = {ours: hf[theirs] for ours, theirs in fields.items()}
    return Mamba2(**given, dt_min=low, dt_max=None if math.isinf(high) else high)


def write_mixer(cfg: DecoderConfig, fields: Mapping[str, str]) -> Hf:
    """The same fields under their names.

    Raises:
        OrreryError: no layer of the config is a state-space layer.
    """
    ssm = cfg.recurrent
    if not isinstance(ssm, Mamba2):
        raise OrreryError("the recurrent layers are not Mamba-2's")
    limit = (ssm.dt_min, ssm.dt_max) != (0.0, None)
    # No limit is left out: JSON has no word for infinity.
    upper = {"__float__": "Infinity"} if ssm.dt_max is None else ssm.dt_max
    return {
        **{theirs: getattr(ssm, ours) for ours, theirs in fields.items()},
        **({"time_step_limit": [ssm.dt_min, upper]} if limit else {}),
    }


def expansion(cfg: DecoderConfig) -> int:
    """Their `expand`: inner width over model width.

    Raises:
        OrreryError: it is no whole number.
    """
    assert isinstance(cfg.recurrent, Mamba2)
    if cfg.recurrent.inner % cfg.d_model:
        raise OrreryError(f"an inner width of {cfg.recurrent.inner} is no multiple of d_model={cfg.d_model}")
    return cfg.recurrent.inner // cfg.d_model


def _number(value: Any) -> float:
    """transformers writes an infinity as {"__float__": "Infinity"}; others as text."""
    return float(value["__float__"] if isinstance(value, dict) else value)
