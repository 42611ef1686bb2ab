"""Command R7B and Command A (Cohere 2025, arXiv:2504.00698): Command R with three sliding layers to a full one without positions."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.cohere import DEFAULTS as COHERE_DEFAULTS
from orrery.model.families.cohere import read_cohere, write_cohere
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import full_every, full_period, read_layer_types, write_layer_types
from orrery.model.families.llama_line import NAMES, filled

DEFAULTS: Hf = {
    **COHERE_DEFAULTS, "rope_theta": 10_000.0, "sliding_window": 4096, "sliding_window_pattern": 4,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    default = full_every(hf, hf["sliding_window_pattern"])
    return DecoderConfig(
        **read_cohere(hf), **read_layer_types(hf, hf["sliding_window"], default, full="nope")
    )


def write(cfg: DecoderConfig) -> Hf:
    period = full_period(cfg)
    pattern = {"sliding_window_pattern": period} if period else {}
    # llama.cpp's converter asks for the part of a head that is turned.
    return {**write_cohere(cfg), **write_layer_types(cfg), **pattern, "rotary_pct": 1.0}


COHERE2 = Family(model_type="cohere2", architecture="Cohere2ForCausalLM", names=NAMES, read=read, write=write)
