"""OLMo 2 (OLMo team 2025, arXiv:2501.00656): what a layer adds is normed, not what it reads; queries and keys are normed whole."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import (
    NAMES,
    QK_NORM,
    filled,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)

DEFAULTS: Hf = {"vocab_size": 50_304, "rms_norm_eps": 1e-5, "attention_bias": False}

REORDERED: Names = {
    **NAMES,
    **QK_NORM,
    "blocks.{i}.attn_out_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp_out_norm": "model.layers.{i}.post_feedforward_layernorm",
}


def read(hf: Hf) -> DecoderConfig:
    return DecoderConfig(**read_olmo2(filled(hf, DEFAULTS)))


def write(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_mlp(cfg.feed_forward), "attention_bias": cfg.attention_bias}


def read_olmo2(hf: Hf) -> dict[str, Any]:
    """What OLMo 2 and 3 have in common."""
    return {
        **read_common(hf),
        "placement": "reordered",
        "qk_norm": "width",
        "attention_bias": hf["attention_bias"],
        "output_bias": hf["attention_bias"],
        "feed_forward": read_mlp({**hf, "mlp_bias": False}),
    }


OLMO2 = Family(model_type="olmo2", architecture="Olmo2ForCausalLM", names=REORDERED, read=read, write=write)
