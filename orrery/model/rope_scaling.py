"""Scaling of rotary frequencies: making a model read further than it was trained.

Every scheme maps the plain frequencies theta^(-2i/D) to new ones; YaRN and LongRoPE also sharpen the attention by a
factor on cos and sin. The arithmetic is in float32 and in the same order as in `transformers`, so that a loaded
checkpoint rotates by the same bits.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from orrery.kit.config import config


def plain_frequencies(theta: float, dim: int, device: torch.device | str = "cpu") -> Tensor:
    """(dim/2,) float32 radians per position: theta^(-2i/dim) (Su et al. 2021, arXiv:2104.09864, eq. 15)."""
    exponent = torch.arange(0, dim, 2, dtype=torch.int64, device=device).float() / dim
    return 1.0 / theta**exponent


@config
class Linear:
    """Position interpolation: every position divided by `factor` (Chen et al. 2023, arXiv:2306.15595, eq. 4)."""

    kind: Literal["linear"] = "linear"
    factor: float

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        return plain_frequencies(theta, dim, device) / self.factor


@config
class Ntk:
    """NTK-aware scaling: theta' = theta * factor^(D/(D-2)), so the slowest frequency is divided by `factor` and the
    fastest is untouched (bloc97 2023; Peng et al. 2023, arXiv:2309.00071, eq. 16)."""

    kind: Literal["ntk"] = "ntk"
    factor: float

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        return plain_frequencies(ntk_theta(theta, dim, self.factor), dim, device)


@config
class Dynamic:
    """Dynamic NTK: the NTK factor grows with the sequence once it is longer than the trained context (emozilla 2023).

    A sequence within `original_max_positions` (HF: max_position_embeddings) is rotated as in training.
    """

    kind: Literal["dynamic"] = "dynamic"
    factor: float
    original_max_positions: int

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        ratio = max(length, self.original_max_positions) / self.original_max_positions
        return plain_frequencies(ntk_theta(theta, dim, self.factor * ratio - (self.factor - 1)), dim, device)


@config
class Yarn:
    """YaRN: fast dimensions stay, slow ones are interpolated, a ramp between; attention sharpened by 0.1 ln s + 1
    (Peng et al. 2023, arXiv:2309.00071, eq. 17-22).

    HF names: factor, original_max_position_embeddings, beta_fast, beta_slow, mscale, mscale_all_dim, attention_factor,
    truncate. `mscale` and `mscale_all_dim` are DeepSeek's: with both set the factor on cos and sin is their ratio, and
    `mscale_all_dim` multiplies the softmax scale (see `orrery.model.mla`).
    """

    kind: Literal["yarn"] = "yarn"
    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        low, high = self.ramp(theta, dim)
        index = torch.arange(dim // 2, dtype=torch.float32, device=device)
        keep = 1 - ((index - low) / (high - low)).clamp(0, 1)  # 1: as trained, 0: interpolated
        wavelength = theta ** (torch.arange(0, dim, 2, device=device).float() / dim)
        return 1.0 / (self.factor * wavelength) * (1 - keep) + 1.0 / wavelength * keep

    def ramp(self, theta: float, dim: int) -> tuple[float, float]:
        """First and last dimension pair of the ramp: where `beta_fast` and `beta_slow` whole turns fit into the
        trained context."""

        def pair(turns: float) -> float:
            return dim * math.log(self.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        return low, high if high != low else high + 0.001

    @property
    def temperature(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return yarn_mscale(self.factor, self.mscale) / yarn_mscale(self.factor, self.mscale_all_dim)
        return yarn_mscale(self.factor)


@config
class Llama3:
    """Llama 3.1: wavelengths under L/high stay, over L/low are divided by `factor`, linear in L/wavelength between.

    HF names: factor, low_freq_factor, high_freq_factor, original_max_position_embeddings (L).
    """

    kind: Literal["llama3"] = "llama3"
    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        plain = plain_frequencies(theta, dim, device)
        turns = self.original_max_positions / (2 * math.pi / plain)  # whole turns within the trained context
        keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        blend = (1 - keep) * plain / self.factor + keep * plain
        return torch.where(keep > 1, plain, torch.where(keep < 0, plain / self.factor, blend))


@config
class LongRope:
    """LongRoPE: a searched divisor for every dimension pair, one set for short and one for long sequences
    (Ding et al. 2024, arXiv:2402.13753).

    HF names: short_factor, long_factor, factor (or max_position_embeddings / original_max_position_embeddings),
    original_max_position_embeddings, attention_factor.
    """

    kind: Literal["longrope"] = "longrope"
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    factor: float
    original_max_positions: int
    attention_factor: float | None = None

    def frequencies(self, theta: float, dim: int, length: int, device: torch.device | str = "cpu") -> Tensor:
        divisor = self.long_factor if length > self.original_max_positions else self.short_factor
        exponent = torch.arange(0, dim, 2, dtype=torch.int64, device=device).float() / dim
        return 1.0 / (torch.tensor(divisor, dtype=torch.float32, device=device) * theta**exponent)

    @property
    def temperature(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_positions))


Scaling = Annotated[Linear | Ntk | Dynamic | Yarn | Llama3 | LongRope, Field(discriminator="kind")]


def ntk_theta(theta: float, dim: int, factor: float) -> float:
    """The base that divides the slowest of `dim/2` frequencies by `factor`."""
    return theta * factor ** (dim / (dim - 2))


def yarn_mscale(factor: float, mscale: float = 1.0) -> float:
    """0.1 * mscale * ln(factor) + 1, and 1 where nothing is stretched (arXiv:2309.00071, eq. 22)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
