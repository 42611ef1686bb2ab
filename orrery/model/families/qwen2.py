"""Qwen2 and Qwen2.5 (Qwen team 2024, arXiv:2407.10671): Llama with biases on queries, keys and values."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import FULL, SLIDING, numbered, read_layer_types, write_layer_types
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

DEFAULTS: Hf = {
    "vocab_size": 151_936, "num_key_value_heads": 32, "max_position_embeddings": 32_768, "use_sliding_window": False, "sliding_window": 4096,
    "max_window_layers": 28,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **read_common(hf),
        **read_windows(hf),
        attention_bias=True,
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
    )


def write(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_mlp(cfg.feed_forward), **write_windows(cfg)}


def read_windows(hf: Hf) -> dict[str, Any]:
    """Layers from `max_window_layers` on slide, if `use_sliding_window`; or `layer_types` says which."""
    window = hf["sliding_window"] if hf["use_sliding_window"] else None
    default = [SLIDING if window and i >= hf["max_window_layers"] else FULL for i in numbered(hf)]
    return read_layer_types(hf, window, default)


def write_windows(cfg: DecoderConfig) -> Hf:
    types = write_layer_types(cfg)
    slides = SLIDING in types["layer_types"]
    first = types["layer_types"].index(SLIDING) if slides else cfg.n_layers
    window = types["sliding_window"] if slides else None
    return {**types, "use_sliding_window": slides, "sliding_window": window, "max_window_layers": first}


QWEN2 = Family(model_type="qwen2", architecture="Qwen2ForCausalLM", names=NAMES, read=read, write=write)
