"""GGUF's architectures, each as data. Facts from the format's key list and the converters of llama.cpp."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from orrery.model.families.family import Hf
from orrery.model.gguf.architecture import (
    COMMON,
    EXPERT_NAMES,
    EXPERTS,
    NAMES,
    SANDWICH,
    Architecture,
    Metadata,
    plus_one,
    turned,
)
from orrery.model.gguf.encoders import BERT
from orrery.model.gguf.own_layouts import MORE
from orrery.model.gguf.scaling import FACTORS, factors_of, read_factors, read_scaling, write_scaling
from orrery.model.gguf.tensors import Contents
from orrery.model.names import Names


def _llama(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    more: Hf = {"model_type": "llama", **read_scaling(keys)}
    if keys.get("expert_count"):
        more |= {"model_type": "mixtral", "num_local_experts": keys["expert_count"]}
    if "blk.0.attn_q.bias" in file.shapes:
        more["attention_bias"] = True
    if "blk.0.ffn_gate.bias" in file.shapes:
        more["mlp_bias"] = True
    return more | read_factors(hf, file)


def _gemma3(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    """The 27B model scales its queries by its width, all others by the size of a head."""
    wide = keys["block_count"] == 62
    scalar = hf["hidden_size"] / hf["num_attention_heads"] if wide else hf["head_dim"]
    return {
        "query_pre_attn_scalar": scalar,
        "layer_types": [
            "sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(hf["num_hidden_layers"])
        ],
        "rope_parameters": {
            "full_attention": {
                "rope_type": "default",
                "rope_theta": keys.get("rope.freq_base", 1e6),
                **read_scaling(keys).get("rope_parameters", {}),
            },
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": keys.get("rope.freq_base_swa", 10_000.0),
            },
        },
    }


def _gemma3_keys(hf: Hf) -> dict[str, Any]:
    ropes = hf["rope_parameters"]
    every, near = ropes["full_attention"], ropes["sliding_attention"]
    return {
        **_head_size(hf),
        "rope.freq_base": every["rope_theta"],
        "rope.freq_base_swa": near["rope_theta"],
        **write_scaling({"rope_parameters": every}),
    }


def _gemma2(hf: Hf, keys: Metadata, file: Contents) -> Hf:
    wide = keys["block_count"] == 46  # 27B
    scalar = hf["hidden_size"] / hf["num_attention_heads"] if wide else hf["head_dim"]
    return {
        "query_pre_attn_scalar": scalar,
        "layer_types": [
            "full_attention" if i % 2 else "sliding_attention" for i in range(hf["num_hidden_layers"])
        ],
    }


def _gemma_names(cfg: Any) -> Names:
    return plus_one(NAMES, "blocks.{i}.attn_norm", "blocks.{i}.mlp_norm", "norm")


def _gemma2_names(cfg: Any) -> Names:
    return {**_gemma_names(cfg), **plus_one(SANDWICH, *map(str, SANDWICH))}


def _gemma3_names(cfg: Any) -> Names:
    return plus_one(_gemma2_names(cfg), "blocks.{i}.attn.q_norm", "blocks.{i}.attn.k_norm")


def _head_size(hf: Hf) -> dict[str, Any]:
    """Keys that llama.cpp wants although they follow from others."""
    size = hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]
    return {"attention.key_length": size, "attention.value_length": size}


def _rope(hf: Hf) -> dict[str, Any]:
    size = hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"]
    return {**_head_size(hf), "rope.dimension_count": size, **write_scaling(hf)}


def _experts_apart(names: Names, there: Collection[str]) -> Names:
    """Mixtral of 2023: a tensor for each expert."""
    if "blk.0.ffn_gate.0.weight" not in there:
        return names
    return {
        **names,
        "blocks.{i}.mlp.experts.gate_up": ("blk.{i}.ffn_gate.{e}.weight", "blk.{i}.ffn_up.{e}.weight"),
        "blocks.{i}.mlp.experts.down": ("blk.{i}.ffn_down.{e}.weight",),
    }


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        name="llama",
        families=("llama", "mistral", "mixtral"),
        settings={**COMMON, "expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        names=lambda cfg: {**turned(cfg), **EXPERT_NAMES},
        read=_llama,
        write=lambda hf: {**_rope(hf), "vocab_size": hf["vocab_size"]},
        extra=factors_of,
        optional=(FACTORS,),
        older=_experts_apart,
    ),
    Architecture(
        name="qwen2",
        families=("qwen2",),
        settings=COMMON,
        names=lambda cfg: NAMES,
        read=lambda hf, keys, file: read_scaling(keys),
        write=write_scaling,
    ),
    Architecture(
        name="qwen3",
        families=("qwen3",),
        settings=COMMON,
        names=lambda cfg: NAMES,
        read=lambda hf, keys, file: read_scaling(keys),
        write=lambda hf: {**_head_size(hf), **write_scaling(hf)},
    ),
    Architecture(
        name="qwen3moe",
        families=("qwen3_moe",),
        settings={**COMMON, **EXPERTS},
        fixed={"norm_topk_prob": True},
        names=lambda cfg: {**NAMES, **EXPERT_NAMES},
        read=lambda hf, keys, file: read_scaling(keys),
        write=lambda hf: {**_head_size(hf), **write_scaling(hf)},
    ),
    Architecture(
        name="gemma",
        families=("gemma",),
        settings=COMMON,
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
        names=_gemma_names,
        write=_head_size,
    ),
    Architecture(
        name="gemma2",
        families=("gemma2",),
        settings={
            **COMMON,
            "attention.sliding_window": "sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
        names=_gemma2_names,
        read=_gemma2,
        write=_head_size,
    ),
    Architecture(
        name="gemma3",
        families=("gemma3_text",),
        settings={
            **COMMON,
            "attention.sliding_window": "sliding_window",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        fixed={"hidden_activation": "gelu_pytorch_tanh"},
        names=_gemma3_names,
        read=_gemma3,
        write=_gemma3_keys,
    ),
)

BY_NAME = {architecture.name: architecture for architecture in (*ARCHITECTURES, *MORE, BERT)}
BY_FAMILY = {family: architecture for architecture in BY_NAME.values() for family in architecture.families}
