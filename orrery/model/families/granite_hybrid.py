"""Granite 4 (IBM 2025): Mamba-2 layers, one attention layer to nine of them and mostly without positions, each followed by a
feed-forward: a dense one, or a mixture of experts beside a shared one. All of Granite's factors."""

from __future__ import annotations

from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, LayerKind
from orrery.model.families import granite
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import NAMES, filled, read_activation
from orrery.model.families.state_space import expansion, mixer_names, read_mixer, write_mixer
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.names import As, Layout
from orrery.model.positions import NoPosition, Rope

SSM = {
    "n_heads": "mamba_n_heads", "head_dim": "mamba_d_head", "state_dim": "mamba_d_state", "n_groups": "mamba_n_groups",
    "conv_taps": "mamba_d_conv", "conv_bias": "mamba_conv_bias", "bias": "mamba_proj_bias", "chunk": "mamba_chunk_size",
}  # fmt: skip
"""Our field of a state-space layer -> theirs."""

DEFAULTS: Hf = {
    "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_d_state": 256, "mamba_n_groups": 1, "mamba_d_conv": 4,
    "mamba_conv_bias": True, "mamba_proj_bias": False, "mamba_chunk_size": 256, "mamba_expand": 2, "num_local_experts": 8,
    "num_experts_per_tok": 2, "intermediate_size": 11008, "shared_intermediate_size": 1024, "router_aux_loss_coef": 0.001,
}  # fmt: skip

KINDS: dict[str, LayerKind] = {
    "mamba": "recurrent",
    "linear_attention": "recurrent",
    "attention": "global",
    "full_attention": "global",
}

SWAPPED = Layout(
    lambda theirs, shapes: [theirs[0].transpose(1, 2).contiguous()], lambda ours: [ours[0].transpose(1, 2)]
)
"""Stacks of experts that are stored (E, out, in)."""

LAYER, MLP = "model.layers.{i}", "blocks.{i}.mlp"


def names(cfg: DecoderConfig) -> Names:
    """A dense layer has the shared part alone."""
    ours = f"{MLP}.shared_experts" if isinstance(cfg.feed_forward, Moe) else MLP
    return {
        **{key: value for key, value in NAMES.items() if ".mlp." not in str(key)},
        **mixer_names("blocks.{i}.recurrent", f"{LAYER}.mamba"),
        (f"{ours}.gate_proj", f"{ours}.up_proj"): f"{LAYER}.shared_mlp.input_linear",
        f"{ours}.down_proj": f"{LAYER}.shared_mlp.output_linear",
        f"{MLP}.router": f"{LAYER}.block_sparse_moe.router.layer",
        f"{MLP}.experts.gate_up": As(f"{LAYER}.block_sparse_moe.input_linear.weight", SWAPPED),
        f"{MLP}.experts.down": As(f"{LAYER}.block_sparse_moe.output_linear.weight", SWAPPED),
    }


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    if hf["mamba_d_head"] == "auto":
        hf["mamba_d_head"] = hf["mamba_expand"] * hf["hidden_size"] // hf["mamba_n_heads"]
    layers = hf.get("layer_types") or hf.get("layers_block_type") or ["mamba"] * hf["num_hidden_layers"]
    if strange := set(layers) - set(KINDS):
        raise OrreryError(f"config.json has layers of the kind {sorted(strange)}; known are {list(KINDS)}")
    pattern = tuple(KINDS[layer] for layer in layers)
    cfg = granite.read({**hf, "intermediate_size": hf["shared_intermediate_size"]})
    experts = hf["num_local_experts"] and Moe(
        n_experts=hf["num_local_experts"],
        top_k=hf["num_experts_per_tok"],
        d_ff=hf["intermediate_size"],
        shared_width=hf["shared_intermediate_size"],
        activation=read_activation(hf),
        balance_loss=hf["router_aux_loss_coef"],
    )
    return replace(
        cfg,
        feed_forward=experts or cfg.feed_forward,
        position=cfg.position if hf.get("position_embedding_type") == "rope" else NoPosition(),
        layer_pattern=pattern,
        recurrent=read_mixer(hf, SSM) if "recurrent" in pattern else None,
    )


def write(cfg: DecoderConfig) -> Hf:
    moe, rope = cfg.feed_forward, isinstance(cfg.position, Rope)
    recurrent = [cfg.layer_kind(i) == "recurrent" for i in range(cfg.n_layers)]
    experts: Hf = {"num_local_experts": 0, "num_experts_per_tok": 0}
    if isinstance(moe, Moe):
        experts = {
            "num_local_experts": moe.n_experts,
            "num_experts_per_tok": moe.top_k,
            "intermediate_size": moe.d_ff,
            "router_aux_loss_coef": moe.balance_loss,
        }
        moe = Mlp(d_ff=moe.shared_d_ff, activation=moe.activation)
    # Without such layers transformers still checks that their heads divide the width.
    mixer = (
        {**write_mixer(cfg, SSM), "mamba_expand": expansion(cfg)} if any(recurrent) else {"mamba_n_heads": 1}
    )
    return {
        **granite.write(replace(cfg, feed_forward=moe, position=cfg.position if rope else Rope())),
        **mixer,
        "shared_intermediate_size": moe.d_ff,
        **experts,
        "layer_types": ["linear_attention" if x else "full_attention" for x in recurrent],
        "position_embedding_type": "rope" if rope else None,
    }


GRANITE_HYBRID = Family(
    model_type="granitemoehybrid",
    architecture="GraniteMoeHybridForCausalLM",
    names=names,
    read=read,
    write=write,
)
