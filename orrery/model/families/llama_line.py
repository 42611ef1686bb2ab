"""What the families descended from Llama have in common: the fields of config.json and the names of the tensors."""

from __future__ import annotations

from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Hf, Names
from orrery.model.families.rope_settings import read_rope, write_rope
from orrery.model.mlp import Activation, Mlp
from orrery.model.moe import Moe

NAMES: Names = {
    "embed": "model.embed_tokens",
    "blocks.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blocks.{i}.attn.q_proj": "model.layers.{i}.self_attn.q_proj",
    "blocks.{i}.attn.k_proj": "model.layers.{i}.self_attn.k_proj",
    "blocks.{i}.attn.v_proj": "model.layers.{i}.self_attn.v_proj",
    "blocks.{i}.attn.o_proj": "model.layers.{i}.self_attn.o_proj",
    "blocks.{i}.mlp_norm": "model.layers.{i}.post_attention_layernorm",
    "blocks.{i}.mlp.gate_proj": "model.layers.{i}.mlp.gate_proj",
    "blocks.{i}.mlp.up_proj": "model.layers.{i}.mlp.up_proj",
    "blocks.{i}.mlp.down_proj": "model.layers.{i}.mlp.down_proj",
    "norm": "model.norm",
    "lm_head": "lm_head",
}

FUSED_GATE_UP: Names = {
    ("blocks.{i}.mlp.gate_proj", "blocks.{i}.mlp.up_proj"): "model.layers.{i}.mlp.gate_up_proj",
}

QK_NORM: Names = {
    "blocks.{i}.attn.q_norm": "model.layers.{i}.self_attn.q_norm",
    "blocks.{i}.attn.k_norm": "model.layers.{i}.self_attn.k_norm",
}

ACTIVATIONS: dict[Activation, str] = {
    "silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "relu2": "relu2",
}  # fmt: skip

SPELLINGS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "relu": "relu", "relu2": "relu2", "gelu": "gelu", "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh", "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
}  # fmt: skip
"""All their names of an activation; several spell one function."""

RMS_EPS, LAYER_EPS = "rms_norm_eps", "layer_norm_eps"

NULL_MEANS_NONE = (
    "sliding_window", "num_key_value_heads", "attn_logit_softcapping", "final_logit_softcapping", "clip_qkv",
)  # fmt: skip


def filled(hf: Hf, defaults: Hf) -> Hf:
    """A config.json with a family's defaults where it is silent or says null, save where null has a meaning of its own."""
    return {**defaults, **{key: v for key, v in hf.items() if v is not None or key in NULL_MEANS_NONE}}


def read_common(
    hf: Hf,
    *,
    eps: float = 1e-6,
    eps_key: str = RMS_EPS,
    theta: float = 10_000.0,
    max_positions: int = 2048,
    **rope: Any,
) -> dict[str, Any]:
    """Fields of a DecoderConfig that every family of the line spells alike; the arguments are the family's defaults.

    `rope` is `fraction` and `interleaved` of `read_rope`.
    """
    return {
        "vocab_size": hf["vocab_size"],
        "d_model": hf["hidden_size"],
        "n_layers": hf["num_hidden_layers"],
        "n_heads": hf["num_attention_heads"],
        "n_kv_heads": hf.get("num_key_value_heads") or hf["num_attention_heads"],
        "head_dim": hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"],
        "norm_eps": hf.get(eps_key, eps),
        "position": read_rope(hf, theta=theta, max_positions=max_positions, **rope),
        "tied": hf.get("tie_word_embeddings", False),
        "max_positions": hf.get("max_position_embeddings", max_positions),
    }


def write_common(cfg: DecoderConfig, *, eps_key: str = RMS_EPS) -> Hf:
    """The same fields under their names."""
    return {
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.d_model,
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_size,
        eps_key: cfg.norm_eps,
        **write_rope(cfg.position),
        "tie_word_embeddings": cfg.tied,
        "max_position_embeddings": cfg.max_positions,
        "attention_dropout": 0.0,
        "initializer_range": cfg.init.std,
        "use_cache": True,
    }


def read_activation(hf: Hf, key: str = "hidden_act") -> Activation:
    """Our name of what they call the activation.

    Raises:
        OrreryError: an activation we do not have.
    """
    theirs = hf.get(key) or "silu"
    if theirs not in SPELLINGS:
        raise OrreryError(f"{key} asks for the activation '{theirs}'; known are {', '.join(SPELLINGS)}")
    return SPELLINGS[theirs]


def read_mlp(hf: Hf) -> Mlp:
    """The gated feed-forward of dense layers."""
    return Mlp(d_ff=hf["intermediate_size"], activation=read_activation(hf), bias=hf.get("mlp_bias", False))


def write_mlp(cfg: Mlp | Moe) -> Hf:
    if not isinstance(cfg, Mlp):
        raise OrreryError(f"feed_forward '{cfg.kind}' is not dense")
    return {"intermediate_size": cfg.d_ff, "hidden_act": ACTIVATIONS[cfg.activation], "mlp_bias": cfg.bias}
