"""Nemotron-H (NVIDIA 2025, arXiv:2504.03624), Nemotron Nano 2 and Nemotron 3: state-space layers, a few attention layers
without positions, and feed-forwards (dense or a mixture of experts), each a layer of its own."""

from __future__ import annotations

from dataclasses import replace

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig, LayerKind
from orrery.model.families.family import Family, Hf, Names
from orrery.model.families.llama_line import ACTIVATIONS, filled, read_activation
from orrery.model.families.state_space import MIXER, PLAIN, mixer_names, read_mixer, write_mixer
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.model.positions import NoPosition

FIELDS = {
    **PLAIN, "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads", "head_dim": "head_dim",
}  # fmt: skip
SSM = {**MIXER, "n_heads": "mamba_num_heads", "head_dim": "mamba_head_dim", "state_dim": "ssm_state_size"}
EXPERTS = {
    "n_experts": "n_routed_experts", "top_k": "num_experts_per_tok", "d_ff": "moe_intermediate_size",
    "shared_width": "moe_shared_expert_intermediate_size", "latent_width": "moe_latent_size",
    "normalize_top_k": "norm_topk_prob", "routed_scaling": "routed_scaling_factor", "groups": "n_group",
    "top_groups": "topk_group",
}  # fmt: skip
"""Our fields of the model, of its state-space layers and of its experts -> theirs."""

DEFAULTS: Hf = {
    "vocab_size": 131072, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
    "use_conv_bias": True, "use_bias": False, "chunk_size": 128, "mamba_hidden_act": "silu", "intermediate_size": 21504,
    "mlp_hidden_act": "relu2", "mlp_bias": False, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688, "moe_latent_size": None,
    "norm_topk_prob": True, "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "tie_word_embeddings": False,
    "max_position_embeddings": 4096, "layer_norm_epsilon": 1e-5,
}  # fmt: skip

SPELLINGS = {
    "M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe",
    "mamba": "linear_attention", "attention": "full_attention",
}  # fmt: skip
"""Layers as hybrid_override_pattern and as older files spell them."""


MIX, MOE = "backbone.layers.{i}.mixer", "blocks.{i}.mlp"
NAMES: Names = {
    "embed": "backbone.embeddings",
    "blocks.{i}.norm": "backbone.layers.{i}.norm",
    **mixer_names("blocks.{i}.recurrent", MIX),
    **{f"blocks.{{i}}.attn.{name}": f"{MIX}.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{
        f"{MOE}.{ours}_proj": f"{MIX}.{ours}_proj"
        for ours in ("up", "down", "shared_experts.up", "shared_experts.down")
    },
    f"{MOE}.router.weight": f"{MIX}.gate.weight",
    f"{MOE}.router.expert_bias": f"{MIX}.gate.e_score_correction_bias",
    f"{MOE}.experts.up": (f"{MIX}.experts.{{e}}.up_proj.weight",),
    f"{MOE}.experts.down": (f"{MIX}.experts.{{e}}.down_proj.weight",),
    f"{MOE}.into_latent": f"{MIX}.fc1_latent_proj",
    f"{MOE}.out_of_latent": f"{MIX}.fc2_latent_proj",
    "norm": "backbone.norm_f",
    "lm_head": "lm_head",
}


def read(hf: Hf) -> DecoderConfig:
    layers = hf.get("layers_block_type") or hf.get("layer_types") or hf.get("hybrid_override_pattern")
    layers = [SPELLINGS.get(layer, layer) for layer in layers or "ME*-"]
    both = {"moe", "mlp"} <= set(layers)
    kinds: dict[str, LayerKind] = {
        "linear_attention": "recurrent",
        "full_attention": "global",
        "moe": "feed_forward",
        "mlp": "dense_feed_forward" if both else "feed_forward",
    }
    if strange := set(layers) - set(kinds):
        raise OrreryError(f"config.json has layers of the kind {sorted(strange)}; known are {list(kinds)}")
    hf = filled({"head_dim": hf.get("attention_head_dim"), **hf}, DEFAULTS)
    hf["num_key_value_heads"] = hf["num_key_value_heads"] or hf["num_attention_heads"]
    activation = read_activation(hf, "mlp_hidden_act")
    dense = Mlp(d_ff=hf["intermediate_size"], activation=activation, gated=False, bias=hf["mlp_bias"])
    return DecoderConfig(
        **{ours: hf[theirs] for ours, theirs in FIELDS.items()},
        n_layers=len(layers),
        feed_forward=read_experts(hf, dense) if "moe" in layers else dense,
        dense_feed_forward=dense if both else None,
        position=NoPosition(),
        layer_pattern=tuple(kinds[layer] for layer in layers),
        recurrent=read_mixer(hf, SSM, "mamba_hidden_act"),
        sublayers="one",
    )


def read_experts(hf: Hf, dense: Mlp) -> Moe:
    """Experts without gates, chosen by sigmoid scores and a bias as in DeepSeek-V3, beside a shared one."""
    if dense.bias:
        raise OrreryError(
            "config.json asks for mlp_bias in a mixture of experts; known are experts without biases"
        )
    given = {ours: hf[theirs] for ours, theirs in EXPERTS.items()}
    return Moe(**given, activation=dense.activation, gated=False, router="sigmoid", bias_update=0.0)


def write(cfg: DecoderConfig) -> Hf:
    ff, experts = cfg.feed_forward, {}
    dense = ff if isinstance(ff, Mlp) else cfg.dense_feed_forward
    if isinstance(ff, Moe):
        experts = {theirs: getattr(ff, ours) for ours, theirs in EXPERTS.items()}
        experts |= {"moe_shared_expert_intermediate_size": ff.shared_d_ff, "n_shared_experts": 1}
    kinds = {
        "recurrent": "linear_attention", "global": "full_attention", "dense_feed_forward": "mlp",
        "feed_forward": "moe" if experts else "mlp",
    }  # fmt: skip
    if not set(cfg.layer_pattern) <= set(kinds):
        raise OrreryError("layers that see a window have no word in this family")
    plain = replace(cfg, n_kv_heads=cfg.kv_heads, head_dim=cfg.head_size)
    return {
        **{theirs: getattr(plain, ours) for ours, theirs in FIELDS.items()},
        **write_mixer(cfg, SSM),
        **experts,
        "num_hidden_layers": cfg.n_layers,
        "layers_block_type": [kinds[cfg.layer_kind(i)] for i in range(cfg.n_layers)],
        "intermediate_size": (dense or ff).d_ff,
        "mlp_hidden_act": ACTIVATIONS[ff.activation],
        "mlp_bias": dense is not None and dense.bias,
        "mamba_hidden_act": "silu",
        "use_cache": True,
    }


NEMOTRON_H = Family(
    model_type="nemotron_h",
    architecture="NemotronHForCausalLM",
    names=NAMES,
    read=read,
    write=write,
    renames=((r"^model\.(embeddings|layers|norm_f)\.", r"backbone.\1."),),
    redundant=(r"^mtp\.",),
)
