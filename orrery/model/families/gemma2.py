"""Gemma 2 (Gemma team 2024, arXiv:2408.00118): norms around both halves, capped scores, every other layer sees a window."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.gemma import DEFAULTS as GEMMA_DEFAULTS
from orrery.model.families.gemma import SANDWICH, read_gemma2, write_gemma2
from orrery.model.families.layer_types import full_every, read_layer_types, write_layer_types
from orrery.model.families.llama_line import filled

DEFAULTS: Hf = {
    **GEMMA_DEFAULTS, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(**read_gemma2(hf), **read_layer_types(hf, hf["sliding_window"], full_every(hf, 2)))


def write(cfg: DecoderConfig) -> Hf:
    return {**write_gemma2(cfg), **write_layer_types(cfg)}


GEMMA2 = Family(model_type="gemma2", architecture="Gemma2ForCausalLM", names=SANDWICH, read=read, write=write)
