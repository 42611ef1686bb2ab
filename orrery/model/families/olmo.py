"""OLMo (Groeneveld et al. 2024, arXiv:2402.00838): Llama behind LayerNorms without weights; some sizes cut off queries, keys and
values at a number."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

DEFAULTS: Hf = {"vocab_size": 50_304, "attention_bias": False, "clip_qkv": None}


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **read_common({**hf, "rms_norm_eps": 1e-5}),
        norm="layernorm",
        norm_weight=False,
        norm_bias=False,
        qkv_clip=hf["clip_qkv"],
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
    )


def write(cfg: DecoderConfig) -> Hf:
    hf = {**write_common(cfg), **write_mlp(cfg.feed_forward)}
    return {**hf, "attention_bias": cfg.attention_bias, "clip_qkv": cfg.qkv_clip}


OLMO = Family(model_type="olmo", architecture="OlmoForCausalLM", names=NAMES, read=read, write=write)
