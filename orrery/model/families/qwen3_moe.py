"""Qwen3 with mixture-of-experts layers (Qwen team 2025, arXiv:2505.09388)."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, NAMES, QK_NORM, read_activation, read_mlp, write_mlp
from orrery.model.families.qwen3 import read_attention, write_attention
from orrery.model.moe import Moe

EXPERTS: Names = {
    "blocks.{i}.mlp.router": "model.layers.{i}.mlp.gate",
    "blocks.{i}.mlp.experts.gate_up": (
        "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
        "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
    ),
    "blocks.{i}.mlp.experts.down": ("model.layers.{i}.mlp.experts.{e}.down_proj.weight",),
}


def read(hf: Hf) -> DecoderConfig:
    dense = sorted(hf.get("mlp_only_layers") or [])
    if dense != list(range(len(dense))) or hf.get("decoder_sparse_step", 1) != 1:
        raise OrreryError(
            f"config.json mixes dense and expert layers (mlp_only_layers={dense}, decoder_sparse_step="
            f"{hf.get('decoder_sparse_step', 1)}); only dense layers before all others are known"
        )
    experts = Moe(
        n_experts=hf.get("num_experts") or hf.get("num_local_experts", 128),
        top_k=hf.get("num_experts_per_tok", 8),
        d_ff=hf["moe_intermediate_size"],
        activation=read_activation(hf),
        normalize_top_k=hf.get("norm_topk_prob", False),
        balance_loss=hf.get("router_aux_loss_coef", 0.001),
    )
    return DecoderConfig(
        **read_attention(hf),
        feed_forward=experts,
        first_dense_layers=len(dense),
        dense_feed_forward=read_mlp(hf) if dense else None,
    )


def write(cfg: DecoderConfig) -> Hf:
    moe = cfg.feed_forward
    if not isinstance(moe, Moe):
        raise OrreryError(f"feed_forward '{moe.kind}' is not a mixture of experts")
    dense = (
        write_mlp(cfg.dense_feed_forward)
        if cfg.dense_feed_forward
        else {"intermediate_size": moe.d_ff * moe.top_k}
    )
    return {
        **write_attention(cfg),
        **dense,
        "hidden_act": ACTIVATIONS[moe.activation],
        "num_experts": moe.n_experts,
        "num_local_experts": moe.n_experts,
        "num_experts_per_tok": moe.top_k,
        "moe_intermediate_size": moe.d_ff,
        "norm_topk_prob": moe.normalize_top_k,
        "router_aux_loss_coef": moe.balance_loss,
        "mlp_only_layers": list(range(cfg.first_dense_layers)),
        "decoder_sparse_step": 1,
    }


QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    names={**NAMES, **QK_NORM, **EXPERTS},
    read=read,
    write=write,
)
