"""Granite 3 (IBM 2024): Llama with factors on embeddings, on what layers add, on scores and on logits (Yang et al. 2022, muP)."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

DEFAULTS: Hf = {
    "vocab_size": 32_000, "attention_bias": False, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
    "attention_multiplier": 1.0, "logits_scaling": 1.0,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **read_common(hf),
        embedding_scale=hf["embedding_multiplier"],
        residual_scale=hf["residual_multiplier"],
        attention_scale=hf["attention_multiplier"],
        logit_scale=1 / hf["logits_scaling"],
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
        feed_forward=read_mlp(hf),
    )


def write(cfg: DecoderConfig) -> Hf:
    scale = cfg.logit_scale or 1.0
    divisor = next((d for d in (round(1 / scale, 6), 1 / scale) if d and 1 / d == scale), 1 / scale)
    return {
        **write_common(cfg),
        **write_mlp(cfg.feed_forward),
        "embedding_multiplier": cfg.embedding_scale or 1.0,
        "residual_multiplier": cfg.residual_scale,
        "attention_multiplier": cfg.attention_scale or cfg.head_size**-0.5,
        "logits_scaling": divisor,
        "attention_bias": cfg.attention_bias,
    }


GRANITE = Family(model_type="granite", architecture="GraniteForCausalLM", names=NAMES, read=read, write=write)
