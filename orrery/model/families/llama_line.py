"""What the families descended from Llama have in common: the fields of config.json and the names of the tensors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Hf, Names
from orrery.model.mlp import Activation, Mlp
from orrery.model.moe import Moe
from orrery.model.positions import Dynamic, Linear, Llama3, LongRope, Position, Rope, Yarn

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

QK_NORM: Names = {
    "blocks.{i}.attn.q_norm": "model.layers.{i}.self_attn.q_norm",
    "blocks.{i}.attn.k_norm": "model.layers.{i}.self_attn.k_norm",
}

ACTIVATIONS: dict[Activation, str] = {
    "silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "relu": "relu", "relu2": "relu2",
}  # fmt: skip

SCALINGS: dict[str, Any] = {
    "linear": Linear, "dynamic": Dynamic, "yarn": Yarn, "llama3": Llama3, "longrope": LongRope,
}  # fmt: skip

# Our field names in a scaling -> theirs.
SCALING_FIELDS = {
    "factor": "factor",
    "original_max_positions": "original_max_position_embeddings",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "short_factor": "short_factor",
    "long_factor": "long_factor",
}


def read_common(
    hf: Hf, *, eps: float = 1e-6, theta: float = 10_000.0, max_positions: int = 2048
) -> dict[str, Any]:
    """Fields of a DecoderConfig that every family of the line spells alike; the arguments are the family's defaults."""
    return {
        "vocab_size": hf["vocab_size"],
        "d_model": hf["hidden_size"],
        "n_layers": hf["num_hidden_layers"],
        "n_heads": hf["num_attention_heads"],
        "n_kv_heads": hf.get("num_key_value_heads") or hf["num_attention_heads"],
        "head_dim": hf.get("head_dim") or hf["hidden_size"] // hf["num_attention_heads"],
        "norm_eps": hf.get("rms_norm_eps", eps),
        "position": read_rope(hf, theta=theta, max_positions=max_positions),
        "tied": hf.get("tie_word_embeddings", False),
        "max_positions": hf.get("max_position_embeddings", max_positions),
    }


def write_common(cfg: DecoderConfig) -> Hf:
    """The same fields under their names."""
    return {
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.d_model,
        "num_hidden_layers": cfg.n_layers,
        "num_attention_heads": cfg.n_heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_size,
        "rms_norm_eps": cfg.norm_eps,
        **write_rope(cfg.position),
        "tie_word_embeddings": cfg.tied,
        "max_position_embeddings": cfg.max_positions,
        "attention_dropout": 0.0,
        "initializer_range": cfg.init.std,
        "use_cache": True,
    }


def read_activation(hf: Hf) -> Activation:
    """Our name of their `hidden_act`.

    Raises:
        OrreryError: an activation we do not have.
    """
    theirs = hf.get("hidden_act", "silu")
    for ours, name in ACTIVATIONS.items():
        if theirs == name:
            return ours
    raise OrreryError(
        f"config.json asks for the activation '{theirs}'; known are {', '.join(ACTIVATIONS.values())}"
    )


def read_mlp(hf: Hf) -> Mlp:
    """The gated feed-forward of dense layers."""
    return Mlp(d_ff=hf["intermediate_size"], activation=read_activation(hf), bias=hf.get("mlp_bias", False))


def write_mlp(cfg: Mlp | Moe) -> Hf:
    if not isinstance(cfg, Mlp):
        raise OrreryError(f"feed_forward '{cfg.kind}' is not dense")
    return {"intermediate_size": cfg.d_ff, "hidden_act": ACTIVATIONS[cfg.activation], "mlp_bias": cfg.bias}


def read_rope(hf: Hf, *, theta: float, max_positions: int) -> Rope:
    """`rope_parameters` (transformers 5) or `rope_theta` with `rope_scaling` (before).

    Raises:
        OrreryError: a kind of scaling we do not have.
    """
    given = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    kind = given.get("rope_type", given.get("type", "default"))
    theta = given.get("rope_theta", hf.get("rope_theta", theta))
    if kind == "default":
        return Rope(theta=theta)
    if kind not in SCALINGS:
        raise OrreryError(
            f"config.json asks for rope scaling '{kind}'; known are default, {', '.join(SCALINGS)}"
        )
    trained = hf.get("original_max_position_embeddings") or hf.get("max_position_embeddings", max_positions)
    if kind == "dynamic":
        given["original_max_position_embeddings"] = hf.get("max_position_embeddings", max_positions)
    elif kind != "linear":
        given.setdefault("original_max_position_embeddings", trained)
    if kind == "longrope":
        given.setdefault("factor", hf.get("max_position_embeddings", max_positions) / trained)
        given |= {name: tuple(given[name]) for name in ("short_factor", "long_factor")}
    known = SCALINGS[kind].__dataclass_fields__
    fields = {
        ours: given[name]
        for ours, name in SCALING_FIELDS.items()
        if ours in known and given.get(name) is not None
    }
    return Rope(theta=theta, scaling=SCALINGS[kind](**fields))


def write_rope(rope: Position) -> Hf:
    """Both spellings, since readers of either are in use."""
    if not isinstance(rope, Rope):
        raise OrreryError(f"position '{rope.kind}' is not rotary")
    if rope.scaling is None:
        return {
            "rope_theta": rope.theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": rope.theta},
        }
    scaling: Hf = {"rope_type": rope.scaling.kind}
    for ours, value in asdict(rope.scaling).items():
        if ours != "kind" and value is not None:
            scaling[SCALING_FIELDS[ours]] = list(value) if isinstance(value, tuple) else value
    if rope.scaling.kind == "dynamic":
        del scaling["original_max_position_embeddings"]  # theirs is max_position_embeddings
    return {
        "rope_theta": rope.theta,
        "rope_scaling": scaling,
        "rope_parameters": {**scaling, "rope_theta": rope.theta},
    }
