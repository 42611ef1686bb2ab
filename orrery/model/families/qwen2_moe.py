"""Qwen1.5-MoE and Qwen2-MoE (Qwen team 2024, arXiv:2407.10671): small experts beside a gated shared one."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, NAMES, read_activation, read_common, write_common
from orrery.model.families.qwen3_moe import EXPERTS
from orrery.model.moe import Moe

SHARED: Names = {
    "blocks.{i}.mlp.shared_gate": "model.layers.{i}.mlp.shared_expert_gate",
    "blocks.{i}.mlp.shared_experts.gate_proj": "model.layers.{i}.mlp.shared_expert.gate_proj",
    "blocks.{i}.mlp.shared_experts.up_proj": "model.layers.{i}.mlp.shared_expert.up_proj",
    "blocks.{i}.mlp.shared_experts.down_proj": "model.layers.{i}.mlp.shared_expert.down_proj",
}


def read(hf: Hf) -> DecoderConfig:
    if hf.get("mlp_only_layers") or hf.get("decoder_sparse_step", 1) != 1:
        raise OrreryError(
            f"config.json mixes dense and expert layers (mlp_only_layers={hf.get('mlp_only_layers')}, "
            f"decoder_sparse_step={hf.get('decoder_sparse_step')}), which no published model of the family does"
        )
    if hf.get("use_sliding_window"):
        raise OrreryError(
            "use_sliding_window=true is not known for qwen2_moe; published models leave it false"
        )
    return DecoderConfig(
        **read_common(hf, theta=hf.get("rope_theta", 10_000.0), max_positions=32_768),
        attention_bias=hf.get("qkv_bias", True),
        feed_forward=Moe(
            n_experts=hf.get("num_experts", 60),
            top_k=hf.get("num_experts_per_tok", 4),
            d_ff=hf.get("moe_intermediate_size", 1408),
            activation=read_activation(hf),
            normalize_top_k=hf.get("norm_topk_prob", False),
            shared_width=hf.get("shared_expert_intermediate_size", 5632),
            shared_gate=True,
            balance_loss=hf.get("router_aux_loss_coef", 0.001),
        ),
    )


def write(cfg: DecoderConfig) -> Hf:
    moe = cfg.feed_forward
    if not isinstance(moe, Moe) or moe.shared_width is None:
        raise OrreryError("qwen2_moe models have experts and a shared one")
    return {
        **write_common(cfg),
        "hidden_act": ACTIVATIONS[moe.activation],
        "qkv_bias": cfg.attention_bias,
        "num_experts": moe.n_experts,
        "num_experts_per_tok": moe.top_k,
        "moe_intermediate_size": moe.d_ff,
        "intermediate_size": moe.shared_width,
        "shared_expert_intermediate_size": moe.shared_width,
        "norm_topk_prob": moe.normalize_top_k,
        "router_aux_loss_coef": moe.balance_loss,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
        "use_sliding_window": False,
    }


QWEN2_MOE = Family(
    model_type="qwen2_moe",
    architecture="Qwen2MoeForCausalLM",
    names={**NAMES, **EXPERTS, **SHARED},
    read=read,
    write=write,
)
