"""OLMo 3 (OLMo team 2025): OLMo 2 with three sliding layers to a full one; only full ones have their rope scaled."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import full_every, read_layer_types, write_layer_types
from orrery.model.families.llama_line import filled
from orrery.model.families.olmo2 import DEFAULTS as OLMO2_DEFAULTS
from orrery.model.families.olmo2 import REORDERED, read_olmo2
from orrery.model.families.olmo2 import write as write_olmo2
from orrery.model.families.rope_settings import read_rope_by_kind, write_rope_by_kind

DEFAULTS: Hf = {
    **OLMO2_DEFAULTS, "sliding_window": 4096, "rope_theta": 500_000.0, "max_position_embeddings": 2048,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    theta = hf["rope_theta"]
    ropes = read_rope_by_kind(hf, theta=theta, local_theta=theta, max_positions=hf["max_position_embeddings"])
    flat = {**hf, "rope_parameters": None, "rope_scaling": None}
    layers = read_layer_types(hf, hf["sliding_window"], full_every(hf, 4))
    return DecoderConfig(**{**read_olmo2(flat), **ropes, **layers})


def write(cfg: DecoderConfig) -> Hf:
    return {
        **write_olmo2(cfg),
        **write_rope_by_kind(cfg.position, cfg.local_position),
        **write_layer_types(cfg),
    }


OLMO3 = Family(model_type="olmo3", architecture="Olmo3ForCausalLM", names=REORDERED, read=read, write=write)
