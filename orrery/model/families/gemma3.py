"""Gemma 3 (Gemma team 2025, arXiv:2503.19786): Gemma 2 with normed queries and keys, five sliding layers to a full one, and a
rope for each kind.

Of a model that sees images too (model_type "gemma3") this is the part that reads and writes text.
"""

from __future__ import annotations

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.gemma import DEFAULTS as GEMMA_DEFAULTS
from orrery.model.families.gemma import SANDWICH, read_gemma2, write_gemma2
from orrery.model.families.layer_types import full_every, full_period, read_layer_types, write_layer_types
from orrery.model.families.llama_line import QK_NORM, filled
from orrery.model.families.rope_settings import read_rope_by_kind, write_rope_by_kind

# Files of models that see images give the text model's fields only where they differ from these.
DEFAULTS: Hf = {
    **GEMMA_DEFAULTS, "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "rope_local_base_freq": 10_000.0,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    if hf.get("model_type") == "gemma3":
        text = hf.get("text_config")
        if not isinstance(text, dict):
            raise OrreryError("a config.json of model_type 'gemma3' needs text_config, the part for text")
        hf = {"tie_word_embeddings": hf.get("tie_word_embeddings"), **text}
    hf = filled(hf, DEFAULTS)
    ropes = read_rope_by_kind(
        hf, theta=1e6, local_theta=hf["rope_local_base_freq"], max_positions=hf["max_position_embeddings"]
    )
    flat = {**hf, "rope_parameters": None, "rope_scaling": None}
    layers = read_layer_types(hf, hf["sliding_window"], full_every(hf, hf["sliding_window_pattern"]))
    return DecoderConfig(**{**read_gemma2(flat), **ropes, **layers}, qk_norm=True)


def write(cfg: DecoderConfig) -> Hf:
    local = cfg.local_position or cfg.position
    ropes = write_rope_by_kind(cfg.position, cfg.local_position)
    period = full_period(cfg)
    return {
        **write_gemma2(cfg),
        **ropes,
        "rope_local_base_freq": local.theta,  # type: ignore[missing-attribute]
        **write_layer_types(cfg),
        **({"sliding_window_pattern": period} if period else {}),
    }


GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    names={**SANDWICH, **QK_NORM},
    read=read,
    write=write,
    aliases=("gemma3",),
    renames=(
        (r"^(language_model\.model|model\.language_model)\.", "model."),
        (r"^language_model\.lm_head\.", "lm_head."),
    ),
    redundant=(r"^(model\.)?(vision_tower|multi_modal_projector)\.",),
)
