"""Qwen3, dense and mixture-of-experts (Qwen team 2025, arXiv:2505.09388): Llama with normed queries and keys."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import (
    NAMES,
    QK_NORM,
    filled,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)
from orrery.model.families.qwen2 import DEFAULTS, read_windows, write_windows


def read(hf: Hf) -> DecoderConfig:
    return DecoderConfig(**read_attention(hf), feed_forward=read_mlp({**hf, "mlp_bias": False}))


def write(cfg: DecoderConfig) -> Hf:
    return {**write_attention(cfg), **write_mlp(cfg.feed_forward)}


def read_attention(hf: Hf) -> dict[str, Any]:
    """The common fields, and layers that see a window only."""
    hf = filled(hf, {**DEFAULTS, "head_dim": 128, "attention_bias": False})
    return {
        **read_common(hf),
        **read_windows(hf),
        "qk_norm": True,
        "attention_bias": hf["attention_bias"],
        "output_bias": hf["attention_bias"],
    }


def write_attention(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_windows(cfg), "attention_bias": cfg.attention_bias}


QWEN3 = Family(
    model_type="qwen3", architecture="Qwen3ForCausalLM", names={**NAMES, **QK_NORM}, read=read, write=write
)
