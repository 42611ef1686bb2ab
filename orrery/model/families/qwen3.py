"""Qwen3, dense and mixture-of-experts (Qwen team 2025, arXiv:2505.09388): Llama with normed queries and keys."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import NAMES, QK_NORM, read_common, read_mlp, write_common, write_mlp


def read(hf: Hf) -> DecoderConfig:
    return DecoderConfig(**read_attention(hf), feed_forward=read_mlp(hf))


def write(cfg: DecoderConfig) -> Hf:
    return {**write_attention(cfg), **write_mlp(cfg.feed_forward)}


def read_attention(hf: Hf) -> dict[str, Any]:
    """The common fields, and layers that see a window only."""
    bias = hf.get("attention_bias", False)
    layers = hf["num_hidden_layers"]
    window = hf.get("sliding_window") if hf.get("use_sliding_window") else None
    types = hf.get("layer_types") or [
        "sliding_attention" if window and i >= hf.get("max_window_layers", 28) else "full_attention"
        for i in range(layers)
    ]
    return {
        **read_common({"head_dim": 128, **hf}, max_positions=32768),
        "qk_norm": True,
        "attention_bias": bias,
        "output_bias": bias,
        "window": window,
        "layer_pattern": tuple("local" if kind == "sliding_attention" else "global" for kind in types),
    }


def write_attention(cfg: DecoderConfig) -> Hf:
    local = [cfg.is_local(i) for i in range(cfg.n_layers)]
    return {
        **write_common(cfg),
        "attention_bias": cfg.attention_bias,
        "use_sliding_window": any(local),
        "sliding_window": cfg.window if any(local) else None,
        "max_window_layers": local.index(True) if any(local) else cfg.n_layers,
        "layer_types": ["sliding_attention" if x else "full_attention" for x in local],
    }


QWEN3 = Family(
    model_type="qwen3", architecture="Qwen3ForCausalLM", names={**NAMES, **QK_NORM}, read=read, write=write
)
