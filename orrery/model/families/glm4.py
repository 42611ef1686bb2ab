"""GLM-4-0414 (GLM team 2025): GLM-4 with a norm on what each half adds, too."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.glm import FUSED, read_glm, write

SANDWICH = {
    **FUSED,
    "blocks.{i}.attn_out_norm": "model.layers.{i}.post_self_attn_layernorm",
    "blocks.{i}.mlp_out_norm": "model.layers.{i}.post_mlp_layernorm",
}


def read(hf: Hf) -> DecoderConfig:
    return DecoderConfig(**read_glm(hf), placement="sandwich")


GLM4 = Family(model_type="glm4", architecture="Glm4ForCausalLM", names=SANDWICH, read=read, write=write)
