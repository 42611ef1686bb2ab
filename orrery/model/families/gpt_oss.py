"""gpt-oss (OpenAI 2025, arXiv:2508.10925): attention sinks, alternating windows, biased experts with a clamped SwiGLU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import NAMES, read_common, write_common
from orrery.model.moe import Moe
from orrery.model.names import As, Layout, Tensors

YARN = {
    "rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
    "original_max_position_embeddings": 4096, "rope_theta": 150_000.0,
}  # fmt: skip


def _apart(theirs: Tensors, shapes: Sequence[torch.Size]) -> Tensors:
    return [torch.cat((t[..., ::2], t[..., 1::2]), -1) for t in theirs]


def _in_turn(ours: Tensors) -> Tensors:
    return [torch.stack(t.chunk(2, -1), -1).flatten(-2) for t in ours]


IN_TURN = Layout(_apart, _in_turn)
"""Theirs has a gate and its factor in turn along the last axis, ours all gates before all factors."""

EXPERTS: Names = {
    "blocks.{i}.mlp.router": "model.layers.{i}.mlp.router",
    "blocks.{i}.mlp.experts.gate_up": As("model.layers.{i}.mlp.experts.gate_up_proj", IN_TURN),
    "blocks.{i}.mlp.experts.in_bias": As("model.layers.{i}.mlp.experts.gate_up_proj_bias", IN_TURN),
    "blocks.{i}.mlp.experts.down": "model.layers.{i}.mlp.experts.down_proj",
    "blocks.{i}.mlp.experts.out_bias": "model.layers.{i}.mlp.experts.down_proj_bias",
    "blocks.{i}.attn.sinks": "model.layers.{i}.self_attn.sinks",
}


def read(hf: Hf) -> DecoderConfig:
    layers = hf.get("layer_types") or [
        "full_attention" if i % 2 else "sliding_attention" for i in range(hf["num_hidden_layers"])
    ]
    if hf.get("swiglu_alpha", 1.702) != 1.702:
        raise OrreryError(f"swiglu_alpha={hf['swiglu_alpha']} is not known; only 1.702 is")
    given = hf if hf.get("rope_parameters") or hf.get("rope_scaling") else {**hf, "rope_parameters": YARN}
    bias = hf.get("attention_bias", True)
    return DecoderConfig(
        **read_common({"head_dim": 64, **given}, eps=1e-5, theta=150_000.0, max_positions=131_072),
        feed_forward=Moe(
            n_experts=hf.get("num_local_experts", 128),
            top_k=hf.get("num_experts_per_tok") or hf.get("experts_per_token", 4),
            d_ff=hf["intermediate_size"],
            clamp=hf.get("swiglu_limit", 7.0),
            expert_bias=True,
            router_bias=True,
            balance_loss=hf.get("router_aux_loss_coef", 0.001),
        ),
        attention_bias=bias,
        output_bias=bias,
        sinks=True,
        window=hf.get("sliding_window") or 128,
        layer_pattern=tuple("local" if kind == "sliding_attention" else "global" for kind in layers),
    )


def write(cfg: DecoderConfig) -> Hf:
    moe = cfg.feed_forward
    if not isinstance(moe, Moe) or moe.clamp is None:
        raise OrreryError("gpt-oss models have experts with a clamped SwiGLU")
    return {
        **write_common(cfg),
        "hidden_act": "silu",
        "intermediate_size": moe.d_ff,
        "num_local_experts": moe.n_experts,
        "num_experts_per_tok": moe.top_k,
        "experts_per_token": moe.top_k,
        "swiglu_limit": moe.clamp,
        "router_aux_loss_coef": moe.balance_loss,
        "attention_bias": cfg.attention_bias,
        "sliding_window": cfg.window,
        "layer_types": [
            "sliding_attention" if cfg.is_local(i) else "full_attention" for i in range(cfg.n_layers)
        ],
    }


GPT_OSS = Family(
    model_type="gpt_oss", architecture="GptOssForCausalLM", names={**NAMES, **EXPERTS}, read=read, write=write
)
