"""Phi-1 to Phi-2 (Li et al. 2023, arXiv:2309.05463): parallel halves behind one LayerNorm, partly turned heads, biases everywhere."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import (
    LAYER_EPS,
    NAMES,
    filled,
    read_activation,
    read_common,
    write_common,
    write_mlp,
)
from orrery.model.mlp import Mlp

DEFAULTS: Hf = {"vocab_size": 51_200, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "qk_layernorm": False}

PHI_NAMES: Names = {
    **NAMES,
    "blocks.{i}.attn.o_proj": "model.layers.{i}.self_attn.dense",
    "blocks.{i}.attn.q_norm": "model.layers.{i}.self_attn.q_layernorm",
    "blocks.{i}.attn.k_norm": "model.layers.{i}.self_attn.k_layernorm",
    "blocks.{i}.mlp.up_proj": "model.layers.{i}.mlp.fc1",
    "blocks.{i}.mlp.down_proj": "model.layers.{i}.mlp.fc2",
    "norm": "model.final_layernorm",
}


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **read_common(hf, eps_key=LAYER_EPS, fraction=0.5),
        norm="layernorm",
        parallel=True,
        attention_bias=True,
        output_bias=True,
        qk_norm=hf["qk_layernorm"],
        feed_forward=Mlp(
            d_ff=hf["intermediate_size"], activation=read_activation(hf), gated=False, bias=True
        ),
        head_bias=True,
    )


def write(cfg: DecoderConfig) -> Hf:
    if cfg.qk_norm not in (True, False):
        raise OrreryError(f"qk_norm='{cfg.qk_norm}' is not known to Phi")
    mlp = write_mlp(cfg.feed_forward)
    return {
        **write_common(cfg, eps_key=LAYER_EPS),
        **mlp,
        "hidden_act": {"gelu_pytorch_tanh": "gelu_new"}.get(mlp["hidden_act"], mlp["hidden_act"]),
        "partial_rotary_factor": getattr(cfg.position, "fraction", 1.0),
        "qk_layernorm": cfg.qk_norm,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


PHI = Family(model_type="phi", architecture="PhiForCausalLM", names=PHI_NAMES, read=read, write=write)
