"""Mistral 7B and its kin (Jiang et al. 2023, arXiv:2310.06825): Llama, where every layer may see a window only."""

from __future__ import annotations

from orrery.model.config import DecoderConfig
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import read_one_kind, write_one_kind
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

DEFAULTS: Hf = {"vocab_size": 32_000, "num_key_value_heads": 8, "sliding_window": 4096}


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    return DecoderConfig(
        **read_common(hf, max_positions=4096 * 32),
        **read_one_kind(hf, hf["sliding_window"]),
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
    )


def write(cfg: DecoderConfig) -> Hf:
    return {**write_common(cfg), **write_mlp(cfg.feed_forward), **write_one_kind(cfg)}


MISTRAL = Family(model_type="mistral", architecture="MistralForCausalLM", names=NAMES, read=read, write=write)
