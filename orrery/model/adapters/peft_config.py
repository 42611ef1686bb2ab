"""The adapter_config.json of an adapter that the `peft` library, or somebody in its name, wrote: read with suspicion.

What would change the adapter's numbers and is not known here is refused by name, settings of later versions too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json import read_object
from orrery.kit.model_folder import ADAPTER
from orrery.kit.untrusted import inside

VIRTUAL = {
    "num_virtual_tokens",
    "token_dim",
    "num_transformer_submodules",
    "num_attention_heads",
    "num_layers",
}
READ: dict[str, set[str]] = {
    "LORA": {
        "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "init_lora_weights",
    },
    "VERA": {"r", "projection_prng_key", "save_projection", "vera_dropout", "d_initial", "init_weights"},
    "IA3": {"feedforward_modules", "init_ia3_weights"},
    "PREFIX_TUNING": VIRTUAL | {"encoder_hidden_size", "prefix_projection", "init_weights"},
    "PROMPT_TUNING": VIRTUAL | {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"},
}  # fmt: skip
"""The kinds that are known, and the settings each has of its own."""
IGNORED = {
    "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules",
    "fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_ga_config", "megatron_config",
    "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules", "task_type",
    "velora_config",
}  # fmt: skip
"""Settings of how the adapter was trained, or that the tensors' names and shapes say again."""
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""Ways to begin that leave the model's own weights as they are; of the others, which subtract something from them first, PiSSA's can be
computed again."""
PATTERN = re.compile(r"[\w.\-^$*+\\|()\[\]]{1,256}")
MOST_PATTERNS = 4096


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """What a LoRA config says of how the tensors are used. The patterns give some modules another alpha; ranks are the tensors'."""

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    pissa: bool
    dropout: float
    ranks: frozenset[int]
    alphas: tuple[tuple[re.Pattern[str], float], ...]

    def scale(self, module: str, rank: int) -> float:
        """The factor of the product of `rank` at `module`: the first pattern that its name, or an end of it, matches decides."""
        alpha = next((x for pattern, x in self.alphas if pattern.match(module)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def read_config(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json: of a kind that is known, with settings that are known.

    Raises:
        OrreryError: missing, damaged, or something that is not known here.
    """
    if not (folder / ADAPTER).is_symlink() and not (folder / ADAPTER).exists():
        raise OrreryError(f"'{folder}' has no {ADAPTER}; give the folder of an adapter, as peft writes it")
    path = inside(folder, ADAPTER)
    hf = read_object(path, max_bytes=1 << 20, what="an adapter's config")
    kind = hf.get("peft_type")
    if not isinstance(kind, str) or kind not in READ:
        raise OrreryError(
            f"'{path}' is an adapter of the kind {str(kind)[:40]!r}; only {', '.join(READ)} are known here"
        )
    for key, value in hf.items():
        if key not in READ[kind] | IGNORED and value:
            raise OrreryError(
                f"'{path}' sets {key[:60]!r}, which changes what the adapter computes and is not known here; train it without"
            )
    return hf


def lora_settings(folder: Path, hf: Mapping[str, Any]) -> LoraSettings:
    """The settings of a LoRA adapter, checked.

    Raises:
        OrreryError: values that make no sense, or a beginning that changed the model's own weights in a way that is lost.
    """
    path = folder / ADAPTER
    start = hf.get("init_lora_weights")
    if start not in PLAIN_STARTS and start != "pissa":
        raise OrreryError(
            f"'{path}' began as {str(start)[:40]!r}, which changes the model's own weights; save it with "
            "path_initial_model_for_weight_conversion, so that it fits the model as published"
        )
    ranks, alphas = (_patterns(path, hf, key) for key in ("rank_pattern", "alpha_pattern"))
    rank = number(path, hf, "r", 8)
    every = [rank, *(x for _, x in ranks)]
    if not all(x == int(x) and 1 <= x <= 1 << 20 for x in every):
        raise OrreryError(f"'{path}': ranks are whole numbers from 1 on")
    return LoraSettings(
        rank=int(rank),
        alpha=number(path, hf, "lora_alpha", 8),
        rslora=hf.get("use_rslora") is True,
        dora=hf.get("use_dora") is True,
        pissa=start == "pissa",
        dropout=min(max(number(path, hf, "lora_dropout", 0.0), 0.0), 0.99),
        ranks=frozenset(int(x) for x in every),
        alphas=alphas,
    )


def number(path: Path, hf: Mapping[str, Any], key: str, default: float) -> float:
    """A number below a million that the config has under `key`."""
    value = hf.get(key, default)
    if type(value) not in (int, float) or not abs(value) < 1e6:
        raise OrreryError(f"'{path}': {key} must be a number below a million, not {str(value)[:40]!r}")
    return value


def _patterns(path: Path, hf: Mapping[str, Any], key: str) -> tuple[tuple[re.Pattern[str], float], ...]:
    """What {pattern of ends of module names: number} says. Only such expressions are taken as cannot take long to match."""
    found = hf.get(key) or {}
    if not isinstance(found, dict) or len(found) > MOST_PATTERNS:
        raise OrreryError(f"'{path}': {key} must map at most {MOST_PATTERNS} names of modules to numbers")
    return tuple((_compiled(path, key, text), number(path, found, text, 0)) for text in found)


def _compiled(path: Path, key: str, text: str) -> re.Pattern[str]:
    repeats, choices = len(re.findall(r"[*+]", text)), text.count("|")
    try:
        if PATTERN.fullmatch(text) and repeats <= 2 and choices <= 8 and not re.search(r"\)[*+]", text):
            return re.compile(rf"(.*\.)?({text})$")
    except re.error:
        pass
    raise OrreryError(
        f"'{path}': {text[:60]!r} in {key} is no name of a module, nor a simple pattern of names"
    )
