"""GLM-4 (GLM team 2024, arXiv:2406.12793): Llama with half of each head turned in neighbouring pairs, biases on q, k, v, fused gates."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import (
    FUSED_GATE_UP,
    NAMES,
    filled,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)

DEFAULTS: Hf = {
    "vocab_size": 151_552, "num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 131_072,
    "rms_norm_eps": 1.5625e-7, "attention_bias": True,
}  # fmt: skip

FUSED: Names = {**NAMES, **FUSED_GATE_UP}


def read(hf: Hf) -> DecoderConfig:
    return DecoderConfig(**read_glm(hf))


def write(cfg: DecoderConfig) -> Hf:
    return {
        **write_common(cfg),
        **write_mlp(cfg.feed_forward),
        "partial_rotary_factor": getattr(cfg.position, "fraction", 1.0),
        "attention_bias": cfg.attention_bias,
    }


def read_glm(hf: Hf) -> dict[str, Any]:
    """What both generations have in common."""
    hf = filled(hf, DEFAULTS)
    return {
        **read_common(hf, fraction=0.5, interleaved=True),
        "attention_bias": hf["attention_bias"],
        "feed_forward": read_mlp({**hf, "mlp_bias": False}),
    }


GLM = Family(model_type="glm", architecture="GlmForCausalLM", names=FUSED, read=read, write=write)
