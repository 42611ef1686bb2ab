"""Llama 1 to 3 (Touvron et al. 2023, arXiv:2302.13971; Llama team 2024, arXiv:2407.21783)."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, {"vocab_size": 32_000, "attention_bias": False})
    bias = hf["attention_bias"]
    return DecoderConfig(**read_common(hf), feed_forward=read_mlp(hf), attention_bias=bias, output_bias=bias)


def write(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_mlp(cfg.feed_forward), "attention_bias": cfg.attention_bias}


LLAMA = Family(model_type="llama", architecture="LlamaForCausalLM", names=NAMES, read=read, write=write)
