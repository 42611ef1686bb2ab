"""Mixtral (Jiang et al. 2024, arXiv:2401.04088): Llama whose feed-forward is a mixture of experts."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, NAMES, read_activation, read_common, write_common
from orrery.model.moe import Moe

EXPERTS: Names = {
    "blocks.{i}.mlp.router": "model.layers.{i}.block_sparse_moe.gate",
    "blocks.{i}.mlp.experts.gate_up": (
        "model.layers.{i}.block_sparse_moe.experts.{e}.w1.weight",
        "model.layers.{i}.block_sparse_moe.experts.{e}.w3.weight",
    ),
    "blocks.{i}.mlp.experts.down": ("model.layers.{i}.block_sparse_moe.experts.{e}.w2.weight",),
}


def read(hf: Hf) -> DecoderConfig:
    window = hf.get("sliding_window")
    experts = Moe(
        n_experts=hf.get("num_local_experts", 8),
        top_k=hf.get("num_experts_per_tok", 2),
        d_ff=hf["intermediate_size"],
        activation=read_activation(hf),
        balance_loss=hf.get("router_aux_loss_coef", 0.001),
    )
    return DecoderConfig(
        **read_common(hf, eps=1e-5, theta=1e6, max_positions=4096 * 32),
        feed_forward=experts,
        window=window,
        layer_pattern=("local",) if window else ("global",),
    )


def write(cfg: DecoderConfig) -> Hf:
    moe = cfg.feed_forward
    if not isinstance(moe, Moe):
        raise OrreryError(f"feed_forward '{moe.kind}' is not a mixture of experts")
    return {
        **write_common(cfg),
        "num_local_experts": moe.n_experts,
        "num_experts_per_tok": moe.top_k,
        "intermediate_size": moe.d_ff,
        "hidden_act": ACTIVATIONS[moe.activation],
        "router_aux_loss_coef": moe.balance_loss,
        "sliding_window": cfg.layer_window(0),
    }


MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    names={**NAMES, **EXPERTS},
    read=read,
    write=write,
)
