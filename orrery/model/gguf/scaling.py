"""Scaled rotary positions in GGUF keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.gguf.tensors import Contents
from orrery.model.positions import Llama3, Rope
from orrery.model.rope_scaling import plain_frequencies

Hf = dict[str, Any]

# Key after "rope.scaling." -> parameter of `rope_parameters`.
KEYS = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "attn_factor": "attention_factor",
    "yarn_attn_factor": "attention_factor",
    "yarn_beta_fast": "beta_fast",
    "yarn_beta_slow": "beta_slow",
}


def read_scaling(keys: Mapping[str, Any]) -> Hf:
    """`rope_parameters`, where the keys (without the architecture's name) ask for scaled positions.

    Raises:
        OrreryError: a kind of scaling we do not have.
    """
    kind = keys.get("rope.scaling.type", "none")
    if kind in ("none", ""):
        return {}
    if kind not in ("linear", "yarn"):
        raise OrreryError(f"the file asks for rope scaling '{kind}'; known are none, linear, yarn")
    given = {ours: keys[f"rope.scaling.{key}"] for key, ours in KEYS.items() if f"rope.scaling.{key}" in keys}
    return {
        "rope_parameters": {
            "rope_type": kind,
            "rope_theta": keys.get("rope.freq_base", 10_000.0),
            **given,
        }
    }


def write_scaling(hf: Hf) -> Hf:
    """The keys for `rope_parameters` of a config.json.

    Raises:
        OrreryError: a kind of scaling that the format has no keys for.
    """
    given = hf.get("rope_parameters") or {}
    kind = given.get("rope_type", "default")
    if kind in ("default", "llama3"):  # llama3 has a tensor of factors instead
        return {}
    if kind not in ("linear", "yarn"):
        raise OrreryError(f"GGUF has no keys for rope scaling '{kind}'; it knows linear and yarn")
    written = {name: key for key, name in reversed(KEYS.items())}
    return {
        "rope.scaling.type": kind,
        **{
            f"rope.scaling.{key}": given[name] for name, key in written.items() if given.get(name) is not None
        },
    }


FACTORS = "rope_freqs.weight"
"""What each rotary frequency is divided by: how Llama 3.1's scaled positions are stored."""

LOW, HIGH, PUBLISHED = 1.0, 4.0, 8192
"""What every published model of the kind has: at which share of its first context's length scaling ends, begins, and that
length."""


def read_factors(hf: Hf, file: Contents) -> Hf:
    """`rope_parameters` of the Llama 3.1 kind, from the factors in a file that has them.

    Raises:
        OrreryError: factors that no such scaling gives.
    """
    if FACTORS not in file.shapes:
        return {}
    factors = file.numbers(FACTORS)
    theta, factor = hf.get("rope_theta", 10_000.0), round(float(factors.max()), 4)
    for positions in (PUBLISHED, *_first_contexts(factors, theta, factor)):
        scaling = Llama3(
            factor=factor, low_freq_factor=LOW, high_freq_factor=HIGH, original_max_positions=positions
        )
        if torch.allclose(factors, _factors(theta, 2 * len(factors), scaling), rtol=1e-4):
            return {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": theta,
                    "factor": factor,
                    "low_freq_factor": LOW,
                    "high_freq_factor": HIGH,
                    "original_max_position_embeddings": positions,
                }
            }
    raise OrreryError(f"'{file.where}': the factors in '{FACTORS}' are not those of Llama 3.1's scaling")


def _first_contexts(factors: Tensor, theta: float, factor: float) -> list[int]:
    """The length of the first context that a factor between 1 and the largest tells, where there is one.

    Between the two, 1 / g = (1 - s) / F + s with s = (length / wavelength - LOW) / (HIGH - LOW).
    """
    between = ((factors > 1.001) & (factors < 0.999 * factor)).nonzero()[:1, 0]
    share = (1 / factors[between] - 1 / factor) / (1 - 1 / factor)
    wavelengths = 2 * torch.pi / plain_frequencies(theta, 2 * len(factors))[between]
    return (wavelengths * (share * (HIGH - LOW) + LOW)).round().long().clamp(min=1).tolist()


def factors_of(cfg: Any) -> dict[str, Tensor]:
    """The tensor of factors for a model with Llama 3.1's scaling; none for others."""
    rope = cfg.position
    if not isinstance(rope, Rope) or not isinstance(rope.scaling, Llama3):
        return {}
    return {FACTORS: _factors(rope.theta, rope.rotary_dim(cfg.head_size), rope.scaling)}


def _factors(theta: float, dim: int, scaling: Llama3) -> Tensor:
    return plain_frequencies(theta, dim) / scaling.frequencies(theta, dim, 0, "cpu")
