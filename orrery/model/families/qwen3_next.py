"""Qwen3-Next (Qwen team 2025): three layers of gated delta rule to one of gated attention, and a mixture of many small experts
beside a shared one."""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import (
    ACTIVATIONS,
    NAMES,
    QK_NORM,
    filled,
    read_activation,
    read_common,
    write_common,
)
from orrery.model.families.qwen2_moe import SHARED
from orrery.model.families.qwen3_moe import EXPERTS
from orrery.model.gated_delta import GatedDelta
from orrery.model.moe import Moe
from orrery.model.names import As, per_head
from orrery.model.positions import Rope

DELTA = {
    "n_key_heads": "linear_num_key_heads", "n_value_heads": "linear_num_value_heads", "key_dim": "linear_key_head_dim",
    "value_dim": "linear_value_head_dim", "conv_taps": "linear_conv_kernel_dim",
}  # fmt: skip
EXPERT = {
    "n_experts": "num_experts", "top_k": "num_experts_per_tok", "d_ff": "moe_intermediate_size",
    "shared_width": "shared_expert_intermediate_size", "normalize_top_k": "norm_topk_prob",
    "balance_loss": "router_aux_loss_coef",
}  # fmt: skip
"""Our fields of a recurrent layer and of the experts -> theirs."""

DEFAULTS: Hf = {
    "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
    "head_dim": 256, "full_attention_interval": 4, "attention_bias": False, "mlp_only_layers": [], "decoder_sparse_step": 1,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4, "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512, "norm_topk_prob": True, "router_aux_loss_coef": 0.001,
}  # fmt: skip

LAYER, OURS = "model.layers.{i}", "blocks.{i}.recurrent"


def names(cfg: DecoderConfig) -> Names:
    """Fused projections hold one key head's (or one query head's) rows after another's."""
    assert isinstance(cfg.recurrent, GatedDelta)
    theirs, by_key = f"{LAYER}.linear_attn", per_head(cfg.recurrent.n_key_heads)
    fused = tuple(f"{OURS}.{name}_proj" for name in ("q", "k", "v", "gate"))
    same = {"A_log": "A_log", "dt_bias": "dt_bias", "conv": "conv1d", "norm": "norm", "o_proj": "out_proj"}
    return {
        **{key: value for key, value in NAMES.items() if key != "blocks.{i}.attn.q_proj"},
        ("blocks.{i}.attn.q_proj", "blocks.{i}.attn.gate_proj"): As(f"{LAYER}.self_attn.q_proj", per_head(cfg.n_heads)),
        **QK_NORM, **EXPERTS, **SHARED,
        fused: As(f"{theirs}.in_proj_qkvz", by_key),
        (f"{OURS}.beta_proj", f"{OURS}.decay_proj"): As(f"{theirs}.in_proj_ba", by_key),
        **{f"{OURS}.{name}": f"{theirs}.{other}" for name, other in same.items()},
    }  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    if hf["mlp_only_layers"] or hf["decoder_sparse_step"] != 1:
        raise OrreryError(
            "config.json has dense layers among those with experts; known are experts in every layer"
        )
    every = hf["full_attention_interval"]
    types = hf.get("layer_types") or [
        "full_attention" if (i + 1) % every == 0 else "linear_attention"
        for i in range(hf["num_hidden_layers"])
    ]
    if strange := set(types) - {"linear_attention", "full_attention"}:
        raise OrreryError(
            f"config.json has layers of the kind {sorted(strange)}; known are linear_attention, full_attention"
        )
    experts = {ours: hf[theirs] for ours, theirs in EXPERT.items()}
    return DecoderConfig(
        **read_common(hf, max_positions=32768, fraction=0.25),
        feed_forward=Moe(**experts, activation=read_activation(hf), shared_gate=True),
        layer_pattern=tuple("recurrent" if kind == "linear_attention" else "global" for kind in types),
        recurrent=GatedDelta(**{ours: hf[theirs] for ours, theirs in DELTA.items()}),
        norm_unit_offset=True,
        qk_norm=True,
        attention_gate=True,
        attention_bias=hf["attention_bias"],
        output_bias=hf["attention_bias"],
    )


def write(cfg: DecoderConfig) -> Hf:
    moe, delta, rope = cfg.feed_forward, cfg.recurrent, cfg.position
    if not isinstance(moe, Moe) or not isinstance(delta, GatedDelta) or not isinstance(rope, Rope):
        raise OrreryError("this family has experts, gated delta layers and rotary positions")
    common = write_common(cfg)
    part = {"partial_rotary_factor": rope.fraction}  # 1 must be said: silence means a quarter
    recurrent = [cfg.layer_kind(i) == "recurrent" for i in range(cfg.n_layers)]
    return {
        **common,
        **part,
        "rope_parameters": {**common["rope_parameters"], **part},
        **{theirs: getattr(delta, ours) for ours, theirs in DELTA.items()},
        **{theirs: getattr(moe, ours) for ours, theirs in EXPERT.items()},
        "shared_expert_intermediate_size": moe.shared_d_ff,
        "layer_types": ["linear_attention" if x else "full_attention" for x in recurrent],
        "attention_bias": cfg.attention_bias,
        "hidden_act": ACTIVATIONS[moe.activation],
        "intermediate_size": moe.d_ff * moe.top_k,
        "mlp_only_layers": [],
        "decoder_sparse_step": 1,
    }


QWEN3_NEXT = Family(
    model_type="qwen3_next",
    architecture="Qwen3NextForCausalLM",
    names=names,
    read=read,
    write=write,
    redundant=(r"^mtp\.",),
)
