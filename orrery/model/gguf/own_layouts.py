"""Architectures that need a layout or a key of their own: fused matrices, latent attention, sinks, state-space layers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from orrery.model.families.family import Hf
from orrery.model.gguf.architecture import (
    COMMON,
    EXPERT_NAMES,
    EXPERTS,
    NAMES,
    Architecture,
    Metadata,
    changed,
)
from orrery.model.gguf.scaling import read_scaling, write_scaling
from orrery.model.gguf.tensors import Contents, plain
from orrery.model.mla import Mla
from orrery.model.names import As, Layout, Names
from orrery.model.positions import LongRope, Rope

FUSED_QKV: Names = {
    ("blocks.{i}.attn.q_proj", "blocks.{i}.attn.k_proj", "blocks.{i}.attn.v_proj"): "blk.{i}.attn_qkv",
}
FUSED_GATE_UP: Names = {("blocks.{i}.mlp.gate_proj", "blocks.{i}.mlp.up_proj"): "blk.{i}.ffn_up"}
SHARED: Names = {
    "blocks.{i}.mlp.shared_experts.gate_proj": "blk.{i}.ffn_gate_shexp",
    "blocks.{i}.mlp.shared_experts.up_proj": "blk.{i}.ffn_up_shexp",
    "blocks.{i}.mlp.shared_experts.down_proj": "blk.{i}.ffn_down_shexp",
}


def without(names: Names, *modules: str) -> Names:
    """The names without these modules, which another entry takes over."""
    return {key: value for key, value in names.items() if key not in modules}


PLAIN_QKV = tuple(f"blocks.{{i}}.attn.{part}_proj" for part in "qkv")
PLAIN_GATE_UP = tuple(f"blocks.{{i}}.mlp.{part}_proj" for part in ("gate", "up"))

ONE_ROW = Layout(lambda theirs, shapes: [theirs[0].reshape(shapes[0])], lambda ours: [ours[0].reshape(-1)])
"""A matrix of one row, stored as a vector."""

LAST = Layout(lambda theirs, shapes: [torch.cat(list(theirs), -1)], lambda ours: list(ours[0].chunk(2, -1)))
"""Two stored tensors, side by side along the last axis."""


def _rotary_share(hf: Hf) -> float:
    """The share of a head that is rotated."""
    given = hf.get("rope_parameters") or {}
    return given.get("partial_rotary_factor", hf.get("partial_rotary_factor", hf.get("rotary_pct", 1.0)))


def _head_size(hf: Hf) -> int:
    return hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]


def _gptneox(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    share = keys["rope.dimension_count"] / _head_size(hf)
    return {"rotary_pct": share, "use_parallel_residual": keys.get("use_parallel_residual", True)}


LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"


def _phi3(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    """A window of 0 is none; LongRoPE's divisors are tensors."""
    size = _head_size(hf)
    more: Hf = {
        "sliding_window": keys.get("attention.sliding_window") or None,
        "partial_rotary_factor": keys.get("rope.dimension_count", size) / size,
        "original_max_position_embeddings": keys.get(
            "rope.scaling.original_context_length", hf["max_position_embeddings"]
        ),
    }
    if LONG in file.shapes:
        more["rope_scaling"] = {
            "rope_type": "longrope",
            "long_factor": plain(file.numbers(LONG).numpy()),
            "short_factor": plain(file.numbers(SHORT).numpy()),
            "attention_factor": keys.get("rope.scaling.attn_factor"),
        }
    return more


def _phi3_keys(hf: Hf) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "attention.sliding_window": hf.get("sliding_window") or 0,
        "rope.dimension_count": round(_head_size(hf) * _rotary_share(hf)),
        "rope.scaling.original_context_length": hf["original_max_position_embeddings"],
    }
    given = hf.get("rope_parameters") or {}
    if given.get("rope_type") != "longrope":
        return keys
    scaling = LongRope(
        short_factor=(), long_factor=(), factor=given["factor"], attention_factor=given.get("attention_factor"),
        original_max_positions=hf["original_max_position_embeddings"],
    )  # fmt: skip
    return keys | {"rope.scaling.attn_factor": scaling.temperature}


def _long_factors(cfg: Any) -> dict[str, Tensor]:
    scaling = cfg.position.scaling if isinstance(cfg.position, Rope) else None
    if not isinstance(scaling, LongRope):
        return {}
    return {LONG: torch.tensor(scaling.long_factor), SHORT: torch.tensor(scaling.short_factor)}


def _split_latent(cfg: Any) -> Layout:
    """Theirs keeps the part that makes keys (H, r, N), transposed for absorption, apart from the values' (H, V, r)."""
    assert isinstance(cfg.attention, Mla)
    heads, nope, value = cfg.n_heads, cfg.attention.qk_nope_head_dim, cfg.attention.v_head_dim

    def join(theirs: Any, shapes: Any) -> list[Tensor]:
        return [torch.cat((theirs[0].transpose(1, 2), theirs[1]), 1).flatten(0, 1)]

    def split(ours: Any) -> list[Tensor]:
        keys, values = ours[0].unflatten(0, (heads, -1)).split((nope, value), 1)
        return [keys.transpose(1, 2), values]

    return Layout(join, split)


def _deepseek_names(cfg: Any) -> Names:
    return {
        **without(NAMES, *PLAIN_QKV),
        **EXPERT_NAMES,
        **SHARED,
        "blocks.{i}.attn.q_proj": "blk.{i}.attn_q",
        "blocks.{i}.attn.q_a_proj": "blk.{i}.attn_q_a",
        "blocks.{i}.attn.q_a_layernorm": "blk.{i}.attn_q_a_norm",
        "blocks.{i}.attn.q_b_proj": "blk.{i}.attn_q_b",
        "blocks.{i}.attn.kv_a_proj_with_mqa": "blk.{i}.attn_kv_a_mqa",
        "blocks.{i}.attn.kv_a_layernorm": "blk.{i}.attn_kv_a_norm",
        "blocks.{i}.attn.kv_b_proj.weight": As(
            ("blk.{i}.attn_k_b.weight", "blk.{i}.attn_v_b.weight"), _split_latent(cfg)
        ),
        "blocks.{i}.mlp.router.expert_bias": "blk.{i}.exp_probs_b.bias",
    }


def _latent_whole(names: Names, there: Collection[str]) -> Names:
    """Before 2025-04: keys and values in one tensor, as in the checkpoint."""
    if "blk.0.attn_k_b.weight" in there:
        return names
    return {**names, "blocks.{i}.attn.kv_b_proj.weight": "blk.{i}.attn_kv_b.weight"}


def _deepseek(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    sigmoid = keys.get("expert_gating_func", 1) == 2
    groups = keys.get("expert_group_count", 1)
    rope = keys["rope.dimension_count"]
    more: Hf = {
        "model_type": "deepseek_v3" if sigmoid else "deepseek_v2",
        "topk_method": "noaux_tc" if sigmoid else "group_limited_greedy" if groups > 1 else "greedy",
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": keys.get("attention.key_length_mla", keys["attention.key_length"]) - rope,
        "v_head_dim": keys.get("attention.value_length_mla", keys["attention.value_length"]),
        "q_lora_rank": keys.get("attention.q_lora_rank"),
        "norm_topk_prob": keys.get("expert_weights_norm", False),
        "n_group": groups,
        "topk_group": keys.get("expert_group_used_count", 1),
        "num_nextn_predict_layers": 0,
        **read_scaling(keys),
    }
    if "rope.scaling.yarn_log_multiplier" in keys:
        mscale = round(10 * keys["rope.scaling.yarn_log_multiplier"], 6)
        more["rope_parameters"] |= {"mscale": mscale, "mscale_all_dim": mscale}
    return more


def _deepseek_keys(hf: Hf) -> dict[str, Any]:
    rope, latent = hf["qk_rope_head_dim"], hf["kv_lora_rank"]
    keys = {
        "attention.head_count_kv": 1,
        "attention.key_length": latent + rope,
        "attention.value_length": latent,
        "attention.key_length_mla": hf["qk_nope_head_dim"] + rope,
        "attention.value_length_mla": hf["v_head_dim"],
        "rope.dimension_count": rope,
        "expert_gating_func": 2 if hf["scoring_func"] == "sigmoid" else 1,
        "expert_weights_norm": hf["norm_topk_prob"],
        "vocab_size": hf["vocab_size"],
        **write_scaling(hf),
    }
    if hf["q_lora_rank"] is not None:
        keys["attention.q_lora_rank"] = hf["q_lora_rank"]
    mscale = (hf.get("rope_parameters") or {}).get("mscale_all_dim")
    return keys if mscale is None else keys | {"rope.scaling.yarn_log_multiplier": 0.1 * mscale}


def _gpt_oss_names(cfg: Any) -> Names:
    return {
        **NAMES,
        **EXPERT_NAMES,
        "blocks.{i}.mlp_norm": "blk.{i}.post_attention_norm",
        "blocks.{i}.attn.sinks": "blk.{i}.attn_sinks.weight",
        "blocks.{i}.mlp.router.bias": "blk.{i}.ffn_gate_inp.bias",
        "blocks.{i}.mlp.experts.in_bias": As(
            ("blk.{i}.ffn_gate_exps.bias", "blk.{i}.ffn_up_exps.bias"), LAST
        ),
        "blocks.{i}.mlp.experts.out_bias": "blk.{i}.ffn_down_exps.bias",
    }


def _gpt_oss(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    scaling = read_scaling(keys)
    if scaling:
        scaling["rope_parameters"]["truncate"] = False
    return {**scaling, "attention_bias": "blk.0.attn_q.bias" in file.shapes}


def _mamba2(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    inner = keys["ssm.inner_size"]
    return {
        "head_dim": inner // keys["ssm.time_step_rank"],
        "expand": inner / hf["hidden_size"],
        "use_conv_bias": "blk.0.ssm_conv1d.bias" in file.shapes,
        "use_bias": "blk.0.ssm_in.bias" in file.shapes,
    }


DECAY = Layout(
    lambda theirs, shapes: [(-theirs[0]).log().reshape(shapes[0])],
    lambda ours: [t.reshape(-1, 1) for t in changed(lambda t: -t.exp())(ours)],
)
"""Theirs is A itself, -exp(A_log), one to a row."""

COLUMN = Layout(lambda theirs, shapes: [theirs[0].reshape(shapes[0])], lambda ours: [ours[0].reshape(-1, 1)])
"""A vector, one to a row."""

TAPS = Layout(
    lambda theirs, shapes: [t.reshape(shape) for t, shape in zip(theirs, shapes, strict=True)],
    lambda ours: [t.reshape(t.shape[0], -1) if t.ndim > 1 else t for t in ours],
)
"""A depthwise convolution's weights without the axis of one input channel."""


def _mamba2_names(cfg: Any) -> Names:
    groups = Layout(
        lambda theirs, shapes: [theirs[0].reshape(shapes[0])],
        lambda ours: [ours[0].reshape(cfg.recurrent.n_groups, -1)],
    )
    return {
        "embed": "token_embd",
        "blocks.{i}.norm": "blk.{i}.attn_norm",
        "blocks.{i}.recurrent.in_proj": "blk.{i}.ssm_in",
        "blocks.{i}.recurrent.conv": As("blk.{i}.ssm_conv1d", TAPS),
        "blocks.{i}.recurrent.A_log": As("blk.{i}.ssm_a", DECAY),
        "blocks.{i}.recurrent.dt_bias": "blk.{i}.ssm_dt.bias",
        "blocks.{i}.recurrent.D": As("blk.{i}.ssm_d", COLUMN),
        "blocks.{i}.recurrent.norm": As("blk.{i}.ssm_norm", groups),
        "blocks.{i}.recurrent.out_proj": "blk.{i}.ssm_out",
        "norm": "output_norm",
        "lm_head": "output",
    }


NO_RMS = {key: value for key, value in COMMON.items() if value != "rms_norm_eps"}

MORE: tuple[Architecture, ...] = (
    Architecture(
        name="gpt2",
        whole_heads=False,
        families=("gpt2",),
        settings={
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        names=lambda cfg: {
            **without(NAMES, *PLAIN_QKV), **FUSED_QKV, "position_embed": "position_embd",
        },
    ),
    Architecture(
        name="gptneox",
        whole_heads=False,
        families=("gpt_neox",),
        settings={**NO_RMS, "attention.layer_norm_epsilon": "layer_norm_eps"},
        fixed={"hidden_act": "gelu"},
        names=lambda cfg: {**without(NAMES, *PLAIN_QKV), **FUSED_QKV},
        read=_gptneox,
        write=lambda hf: {
            "rope.dimension_count": round(_head_size(hf) * _rotary_share(hf)),
            "use_parallel_residual": hf["use_parallel_residual"],
        },
    ),
    Architecture(
        name="phi3",
        whole_heads=False,
        families=("phi3",),
        settings=COMMON,
        names=lambda cfg: {**without(NAMES, *PLAIN_QKV, *PLAIN_GATE_UP), **FUSED_QKV, **FUSED_GATE_UP},
        read=_phi3,
        write=_phi3_keys,
        extra=_long_factors,
        optional=(LONG, SHORT),
    ),
    Architecture(
        name="qwen2moe",
        families=("qwen2_moe",),
        settings={**COMMON, **EXPERTS, "expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        names=lambda cfg: {
            **NAMES, **EXPERT_NAMES, **SHARED,
            "blocks.{i}.mlp.shared_gate": As("blk.{i}.ffn_gate_inp_shexp", ONE_ROW),
        },
        read=lambda hf, keys, file: read_scaling(keys),
        write=write_scaling,
    ),
    Architecture(
        name="deepseek2",
        whole_heads=False,
        families=("deepseek_v2", "deepseek_v3"),
        settings={
            **{key: value for key, value in COMMON.items() if value not in ("head_dim", "num_key_value_heads")},
            "leading_dense_block_count": "first_k_dense_replace",
            "attention.kv_lora_rank": "kv_lora_rank",
            "expert_count": "n_routed_experts",
            "expert_used_count": "num_experts_per_tok",
            "expert_shared_count": "n_shared_experts",
            "expert_feed_forward_length": "moe_intermediate_size",
            "expert_weights_scale": "routed_scaling_factor",
            "expert_group_count": "n_group",
            "expert_group_used_count": "topk_group",
        },
        names=_deepseek_names,
        read=_deepseek,
        write=_deepseek_keys,
        older=_latent_whole,
    ),
    Architecture(
        name="gpt-oss",
        families=("gpt_oss",),
        settings={
            **COMMON,
            "attention.sliding_window": "sliding_window",
            "expert_count": "num_local_experts",
            "expert_used_count": "num_experts_per_tok",
            "expert_feed_forward_length": "intermediate_size",
        },
        names=_gpt_oss_names,
        read=_gpt_oss,
        write=lambda hf: {
            "attention.key_length": _head_size(hf),
            "attention.value_length": _head_size(hf),
            **write_scaling(hf),
        },
    ),
    Architecture(
        name="mamba2",
        whole_heads=False,
        families=("mamba2",),
        settings={
            "context_length": "max_position_embeddings",
            "embedding_length": "hidden_size",
            "block_count": "num_hidden_layers",
            "attention.layer_norm_rms_epsilon": "layer_norm_epsilon",
            "ssm.conv_kernel": "conv_kernel",
            "ssm.state_size": "state_size",
            "ssm.time_step_rank": "num_heads",
            "ssm.group_count": "n_groups",
        },
        names=_mamba2_names,
        read=_mamba2,
        write=lambda hf: {
            "ssm.inner_size": hf["num_heads"] * hf["head_dim"],
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "vocab_size": hf["vocab_size"],
        },
    ),
)  # fmt: skip
