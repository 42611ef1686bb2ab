"""Ministral 8B (Mistral AI 2024): Mistral, where `layer_types` says which layers see a window only."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import FULL, SLIDING, numbered, read_layer_types, write_layer_types
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp
from orrery.model.families.mistral import DEFAULTS


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    window = hf["sliding_window"]
    return DecoderConfig(
        **read_common(hf, max_positions=4096 * 32),
        **read_layer_types(hf, window, [SLIDING if window else FULL for _ in numbered(hf)]),
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
    )


def write(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_mlp(cfg.feed_forward), **write_layer_types(cfg)}


MINISTRAL = Family(
    model_type="ministral", architecture="MinistralForCausalLM", names=NAMES, read=read, write=write
)
