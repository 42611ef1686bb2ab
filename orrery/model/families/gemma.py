"""Gemma (Gemma team 2024, arXiv:2403.08295): Llama with embeddings times sqrt(d), norms of 1 + weight, GELU gates, a tied head.

Also what Gemma 2 and 3 share with it.
"""

from __future__ import annotations

from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

DEFAULTS: Hf = {
    "vocab_size": 256_000, "head_dim": 256, "tie_word_embeddings": True, "max_position_embeddings": 8192,
    "attention_bias": False, "use_bidirectional_attention": False,
}  # fmt: skip

SANDWICH: Names = {
    **NAMES,
    "blocks.{i}.attn_out_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp_norm": "model.layers.{i}.pre_feedforward_layernorm",
    "blocks.{i}.mlp_out_norm": "model.layers.{i}.post_feedforward_layernorm",
}


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, {**DEFAULTS, "num_key_value_heads": 16})
    # The first files said "gelu" and meant the tanh form; `hidden_activation` was added to say what is meant.
    spoken = hf.get("hidden_activation") or hf.get("hidden_act") or "gelu"
    return DecoderConfig(**read_gemma(hf, "gelu_pytorch_tanh" if spoken == "gelu" else spoken))


def write(cfg: DecoderConfig) -> Hf:
    return write_gemma(cfg)


def read_gemma(hf: Hf, activation: str) -> dict[str, Any]:
    """What all Gemmas say alike.

    Raises:
        OrreryError: an embedding model, in which tokens see what comes after them.
    """
    if hf["use_bidirectional_attention"]:
        raise OrreryError(
            "use_bidirectional_attention=true makes an encoder of a Gemma, which is not known here"
        )
    return {
        **read_common(hf),
        "attention_bias": hf["attention_bias"],
        "output_bias": hf["attention_bias"],
        "norm_unit_offset": True,
        "embedding_scale": hf["hidden_size"] ** 0.5,
        "feed_forward": read_mlp({**hf, "hidden_act": activation, "mlp_bias": False}),
    }


def read_gemma2(hf: Hf) -> dict[str, Any]:
    """What Gemma 2 and 3 have besides."""
    return {
        **read_gemma(hf, hf.get("hidden_activation") or "gelu_pytorch_tanh"),
        "placement": "sandwich",
        "attention_scale": hf["query_pre_attn_scalar"] ** -0.5,
        "attention_softcap": hf["attn_logit_softcapping"],
        "logit_softcap": hf["final_logit_softcapping"],
    }


def write_gemma(cfg: DecoderConfig) -> Hf:
    mlp = write_mlp(cfg.feed_forward)
    return {
        **write_common(cfg),
        **mlp,
        "hidden_activation": mlp["hidden_act"],
        "attention_bias": cfg.attention_bias,
    }


def write_gemma2(cfg: DecoderConfig) -> Hf:
    """A scale that is no power -1/2 of a number does not come back, so that such a network is none of theirs."""
    scalar = (cfg.head_size**-0.5 if cfg.attention_scale is None else cfg.attention_scale) ** -2
    return {
        **write_gemma(cfg),
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-6 else scalar,
        "attn_logit_softcapping": cfg.attention_softcap,
        "final_logit_softcapping": cfg.logit_softcap,
    }


GEMMA = Family(model_type="gemma", architecture="GemmaForCausalLM", names=NAMES, read=read, write=write)
