"""Mamba-2 (Dao & Gu 2024, arXiv:2405.21060): nothing but state-space layers."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.llama_line import filled
from orrery.model.families.state_space import MIXER, PLAIN, expansion, mixer_names, read_mixer, write_mixer
from orrery.model.positions import NoPosition

NO_LIMIT = 32_768
"""`max_positions` where config.json names none: a recurrence has no limit, this bounds what one request may ask for."""

DEFAULTS: Hf = {
    "vocab_size": 32768, "hidden_size": 4096, "num_hidden_layers": 64, "num_heads": 128, "head_dim": 64, "state_size": 128,
    "n_groups": 8, "conv_kernel": 4, "use_conv_bias": True, "use_bias": False, "chunk_size": 256, "hidden_act": "silu",
    "layer_norm_epsilon": 1e-5, "tie_word_embeddings": False, "max_position_embeddings": NO_LIMIT,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **{ours: hf[theirs] for ours, theirs in PLAIN.items()},
        n_layers=hf["num_hidden_layers"],
        n_heads=1,
        position=NoPosition(),
        layer_pattern=("recurrent",),
        recurrent=read_mixer(hf, MIXER),
        sublayers="one",
    )


def write(cfg: DecoderConfig) -> Hf:
    return {
        **{theirs: getattr(cfg, ours) for ours, theirs in PLAIN.items()},
        **write_mixer(cfg, MIXER),
        "num_hidden_layers": cfg.n_layers,
        "expand": expansion(cfg),
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "use_cache": True,
    }


MAMBA2 = Family(
    model_type="mamba2",
    architecture="Mamba2ForCausalLM",
    names={
        "embed": "backbone.embeddings",
        "blocks.{i}.norm": "backbone.layers.{i}.norm",
        **mixer_names("blocks.{i}.recurrent", "backbone.layers.{i}.mixer"),
        "norm": "backbone.norm_f",
        "lm_head": "lm_head",
    },
    read=read,
    write=write,
    renames=((r"^backbone\.embedding\.", "backbone.embeddings."),),
)
