"""Phi-3 and Phi-4 (Abdin et al. 2024, arXiv:2404.14219): Llama with fused projections, LongRoPE and a window in some sizes."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.layer_types import read_one_kind, write_one_kind
from orrery.model.families.llama_line import (
    FUSED_GATE_UP,
    NAMES,
    filled,
    read_common,
    read_mlp,
    write_common,
    write_mlp,
)
from orrery.model.positions import LongRope, Rope

DEFAULTS: Hf = {
    "vocab_size": 32_064, "rms_norm_eps": 1e-5, "sliding_window": None, "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
}  # fmt: skip

FUSED: Names = {
    **NAMES,
    **FUSED_GATE_UP,
    (
        "blocks.{i}.attn.q_proj",
        "blocks.{i}.attn.k_proj",
        "blocks.{i}.attn.v_proj",
    ): "model.layers.{i}.self_attn.qkv_proj",
}


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    scaling = hf.get("rope_scaling") or hf.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type")
    if kind in ("su", "yarn"):  # names of LongRoPE before it had one
        hf["rope_scaling"] = {**scaling, "rope_type": "longrope"}
    return DecoderConfig(
        **read_common(hf, fraction=1.0),
        **read_one_kind(hf, hf["sliding_window"]),
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
    )


def write(cfg: DecoderConfig) -> Hf:
    scaling = cfg.position.scaling if isinstance(cfg.position, Rope) else None
    trained = scaling.original_max_positions if isinstance(scaling, LongRope) else cfg.max_positions
    return {
        **write_common(cfg),
        **write_mlp(cfg.feed_forward),
        **write_one_kind(cfg),
        "partial_rotary_factor": getattr(cfg.position, "fraction", 1.0),
        "original_max_position_embeddings": trained,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
    }


PHI3 = Family(model_type="phi3", architecture="Phi3ForCausalLM", names=FUSED, read=read, write=write)
