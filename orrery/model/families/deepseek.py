"""DeepSeek-V2 and V3: latent attention and many small experts (arXiv:2405.04434, arXiv:2412.19437)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import (
    ACTIVATIONS,
    NAMES,
    read_activation,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)  # fmt: skip
from orrery.model.families.qwen3_moe import EXPERTS
from orrery.model.mla import Mla
from orrery.model.moe import Moe
from orrery.model.positions import Rope

LATENT = ("q_a_proj", "q_a_layernorm", "q_b_proj", "kv_a_proj_with_mqa", "kv_a_layernorm", "kv_b_proj")
SHARED = ("gate_proj", "up_proj", "down_proj")
LAYER: Names = {
    **NAMES,
    **EXPERTS,
    **{f"blocks.{{i}}.attn.{part}": f"model.layers.{{i}}.self_attn.{part}" for part in LATENT},
    **{f"blocks.{{i}}.mlp.shared_experts.{part}": f"model.layers.{{i}}.mlp.shared_experts.{part}" for part in SHARED},
    "blocks.{i}.mlp.router.expert_bias": "model.layers.{i}.mlp.gate.e_score_correction_bias",
}  # fmt: skip
MULTI_TOKEN = {"embed_norm": "enorm", "hidden_norm": "hnorm", "proj": "eh_proj", "norm": "shared_head.norm"}
SCORES = {"softmax": "softmax", "sigmoid": "sigmoid"}


def names(cfg: DecoderConfig) -> Names:
    """The layers, and each multi-token module as the layer it follows them as."""
    table = dict(LAYER)
    for k in range(cfg.mtp_heads):
        place = f"model.layers.{cfg.n_layers + k}"
        table |= {f"mtp.{k}.{ours}": f"{place}.{theirs}" for ours, theirs in MULTI_TOKEN.items()}
        for ours, theirs in LAYER.items():
            if isinstance(ours, str) and ours.startswith("blocks.{i}"):
                there = (theirs,) if isinstance(theirs, str) else theirs
                there = tuple(name.replace("model.layers.{i}", place) for name in there)  # type: ignore[not-iterable]
                table[ours.replace("blocks.{i}", f"mtp.{k}.block")] = (
                    there[0] if isinstance(theirs, str) else there
                )
    return table


def read_shared(hf: Hf, **defaults: Any) -> DecoderConfig:
    """What V2 and V3 spell alike; `defaults` are of the version."""
    if hf.get("moe_layer_freq", 1) != 1:
        raise OrreryError(f"moe_layer_freq={hf['moe_layer_freq']} is not known; only 1 is")
    method = hf.get("topk_method", defaults["topk_method"])
    known = ("noaux_tc",) if defaults["topk_method"] == "noaux_tc" else ("greedy", "group_limited_greedy")
    if method not in known:
        raise OrreryError(f"topk_method '{method}' is not known here; known are {', '.join(known)}")
    grouped = method != "greedy"
    common = read_common(
        {**hf, "head_dim": hf.get("qk_rope_head_dim", 64), "num_key_value_heads": None}, eps=1e-6
    )
    common["position"] = replace(common["position"], interleaved=hf.get("rope_interleave", True))
    common["head_dim"] = None
    experts = Moe(
        n_experts=hf.get("n_routed_experts", defaults["n_routed_experts"]),
        top_k=hf.get("num_experts_per_tok", 8),
        d_ff=hf.get("moe_intermediate_size", defaults["moe_intermediate_size"]),
        activation=read_activation(hf),
        router="sigmoid" if method == "noaux_tc" else "softmax",
        normalize_top_k=method == "noaux_tc" and hf.get("norm_topk_prob", True),
        routed_scaling=hf.get("routed_scaling_factor", defaults["routed_scaling_factor"]),
        shared_experts=hf.get("n_shared_experts", defaults["n_shared_experts"]) or 0,
        groups=(hf.get("n_group") or defaults["n_group"]) if grouped else 1,
        top_groups=(hf.get("topk_group") or defaults["topk_group"]) if grouped else 1,
        group_score="top2" if method == "noaux_tc" else "max",
        balance_loss=hf.get("aux_loss_alpha", 0.001),
        bias_update=0.0 if method == "noaux_tc" else None,
    )
    latent = Mla(
        q_lora_rank=hf.get("q_lora_rank", 1536),
        kv_lora_rank=hf.get("kv_lora_rank", 512),
        qk_nope_head_dim=hf.get("qk_nope_head_dim", 128),
        qk_rope_head_dim=hf.get("qk_rope_head_dim", 64),
        v_head_dim=hf.get("v_head_dim", 128),
    )
    dense = min(hf.get("first_k_dense_replace", defaults["first_k_dense_replace"]), hf["num_hidden_layers"])
    return DecoderConfig(
        **common,
        attention=latent,
        attention_bias=hf.get("attention_bias", False),
        output_bias=hf.get("attention_bias", False),
        feed_forward=experts,
        first_dense_layers=dense,
        dense_feed_forward=read_mlp(hf) if dense else None,
        mtp_heads=hf.get("num_nextn_predict_layers", 0) if method == "noaux_tc" else 0,
    )


def read_v2(hf: Hf) -> DecoderConfig:
    return read_shared(
        hf, topk_method="greedy", n_routed_experts=64, moe_intermediate_size=1407, routed_scaling_factor=1.0,
        n_shared_experts=2, n_group=1, topk_group=1, first_k_dense_replace=0,
    )  # fmt: skip


def read_v3(hf: Hf) -> DecoderConfig:
    return read_shared(
        hf, topk_method="noaux_tc", n_routed_experts=256, moe_intermediate_size=2048, routed_scaling_factor=2.5,
        n_shared_experts=1, n_group=8, topk_group=4, first_k_dense_replace=3,
    )  # fmt: skip


def write(cfg: DecoderConfig) -> Hf:
    moe, latent, rope = cfg.feed_forward, cfg.attention, cfg.position
    if not isinstance(moe, Moe) or not isinstance(latent, Mla) or not isinstance(rope, Rope):
        raise OrreryError("DeepSeek models have latent attention, experts and rotary positions")
    chosen = (
        "noaux_tc" if moe.router == "sigmoid" else "greedy" if moe.groups == 1 else "group_limited_greedy"
    )
    dense = cfg.dense_feed_forward
    return {
        **write_common(cfg),
        **(write_mlp(dense) if dense else {"intermediate_size": moe.d_ff * moe.top_k}),
        "hidden_act": ACTIVATIONS[moe.activation],
        "attention_bias": cfg.attention_bias,
        "head_dim": latent.qk_rope_head_dim,
        "q_lora_rank": latent.q_lora_rank,
        "kv_lora_rank": latent.kv_lora_rank,
        "qk_nope_head_dim": latent.qk_nope_head_dim,
        "qk_rope_head_dim": latent.qk_rope_head_dim,
        "v_head_dim": latent.v_head_dim,
        "rope_interleave": rope.interleaved,
        "n_routed_experts": moe.n_experts,
        "num_experts_per_tok": moe.top_k,
        "moe_intermediate_size": moe.d_ff,
        "moe_layer_freq": 1,
        "n_shared_experts": moe.shared_experts,
        "routed_scaling_factor": moe.routed_scaling,
        "norm_topk_prob": moe.normalize_top_k,
        "n_group": moe.groups,
        "topk_group": moe.top_groups,
        "topk_method": chosen,
        "scoring_func": SCORES[moe.router],
        "aux_loss_alpha": moe.balance_loss,
        "first_k_dense_replace": cfg.first_dense_layers,
        "num_nextn_predict_layers": cfg.mtp_heads,
    }


def fit(cfg: DecoderConfig, names: set[str]) -> DecoderConfig:
    """Many copies of a V3 model leave the multi-token modules out, whatever their config.json says."""
    return cfg if f"model.layers.{cfg.n_layers}.eh_proj.weight" in names else replace(cfg, mtp_heads=0)


COPIES = (r"layers\.\d+\.(embed_tokens|shared_head\.head)\.weight$",)
"""Every multi-token module is stored with the model's own embedding and head."""

DEEPSEEK_V2 = Family(
    model_type="deepseek_v2", architecture="DeepseekV2ForCausalLM", names=names, read=read_v2, write=write
)
DEEPSEEK_V3 = Family(
    model_type="deepseek_v3", architecture="DeepseekV3ForCausalLM", names=names, read=read_v3, write=write, fit=fit,
    redundant=COPIES,
)  # fmt: skip
