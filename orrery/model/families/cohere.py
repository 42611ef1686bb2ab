"""Command R (Cohere 2024): parallel halves behind one LayerNorm without a shift, rope on neighbouring pairs, scaled logits."""

from __future__ import annotations

from typing import Any

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import (
    LAYER_EPS,
    NAMES,
    QK_NORM,
    filled,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)

DEFAULTS: Hf = {
    "vocab_size": 256_000, "max_position_embeddings": 8192, "layer_norm_eps": 1e-5, "logit_scale": 0.0625,
    "tie_word_embeddings": True, "attention_bias": False, "use_qk_norm": False, "rope_theta": 500_000.0,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(**read_cohere(hf), qk_norm="each_head" if hf["use_qk_norm"] else False)


def write(cfg: DecoderConfig) -> Hf:
    return {**write_cohere(cfg), "use_qk_norm": cfg.qk_norm == "each_head"}


def read_cohere(hf: Hf) -> dict[str, Any]:
    """What Command R and Command R7B have in common."""
    return {
        **read_common(hf, eps_key=LAYER_EPS, interleaved=True),
        "norm": "layernorm",
        "norm_bias": False,
        "parallel": True,
        "logit_scale": hf["logit_scale"],
        "attention_bias": hf["attention_bias"],
        "output_bias": hf["attention_bias"],
        "feed_forward": read_mlp({**hf, "mlp_bias": False}),
    }


def write_cohere(cfg: DecoderConfig) -> Hf:
    return {
        **write_common(cfg, eps_key=LAYER_EPS),
        **write_mlp(cfg.feed_forward),
        "logit_scale": cfg.logit_scale or 1.0,
        "attention_bias": cfg.attention_bias,
    }


COHERE = Family(
    model_type="cohere", architecture="CohereForCausalLM", names={**NAMES, **QK_NORM}, read=read, write=write
)
