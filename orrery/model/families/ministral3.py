"""Ministral 3 (Mistral AI 2025): Mistral with YaRN and queries that grow with position beyond the trained context."""

from __future__ import annotations

from orrery.model.config import DecoderConfig, QueryTemperature
from orrery.model.families.family import Family, Hf
from orrery.model.families.layer_types import read_one_kind, write_one_kind
from orrery.model.families.llama_line import NAMES, filled, read_common, read_mlp, write_common, write_mlp

ROPE: Hf = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384,
    "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip
DEFAULTS: Hf = {
    "vocab_size": 131_072, "num_key_value_heads": 8, "head_dim": 128, "sliding_window": None, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 262_144,
}  # fmt: skip


def read(hf: Hf) -> DecoderConfig:
    hf = filled(hf, DEFAULTS)
    rope = hf.get("rope_scaling") or hf.get("rope_parameters") or ROPE
    temperature = None
    if rope.get("llama_4_scaling_beta") is not None:
        temperature = QueryTemperature(
            beta=rope["llama_4_scaling_beta"], positions=rope["original_max_position_embeddings"]
        )
    return DecoderConfig(
        **read_common({**hf, "rope_scaling": None, "rope_parameters": rope}),
        **read_one_kind(hf, hf["sliding_window"]),
        feed_forward=read_mlp({**hf, "mlp_bias": False}),
        query_temperature=temperature,
    )


def write(cfg: DecoderConfig) -> Hf:
    hf = {**write_common(cfg), **write_mlp(cfg.feed_forward), **write_one_kind(cfg)}
    if cfg.query_temperature is not None:
        growth = {
            "llama_4_scaling_beta": cfg.query_temperature.beta,
            "original_max_position_embeddings": cfg.query_temperature.positions,
        }
        hf |= {key: hf[key] | growth for key in ("rope_scaling", "rope_parameters") if key in hf}
    return hf


MINISTRAL3 = Family(
    model_type="ministral3", architecture="Ministral3ForCausalLM", names=NAMES, read=read, write=write
)
