"""What layers with a state over time have in common: how large the state is, and how their own parameters begin."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """What one layer keeps of a sequence, however long it is.

    Attributes:
        conv: (taps - 1, channels), the last inputs of the short convolution, in the model's type.
        state: the recurrent state, always float32: roundings would add up over the tokens.
    """

    layer: int
    conv: tuple[int, int]
    state: tuple[int, int, int]

    def bytes(self, dtype: torch.dtype = torch.float32) -> int:
        return math.prod(self.conv) * dtype.itemsize + math.prod(self.state) * 4


class Recurrence(nn.Module, ABC):
    """A layer that a context runs by `ctx.recur`. Its state is made of new tensors at every step, never written to: rows of
    a cache may share it."""

    index: int

    @abstractmethod
    def state_spec(self) -> StateSpec:
        """What generating keeps of this layer for each sequence."""

    @abstractmethod
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draw the parameters whose start is not that of a matrix or a bias."""


def inverse_softplus_of_time_steps(
    shape: torch.Size, low: float, high: float, generator: torch.Generator
) -> Tensor:
    """Biases b for which softplus(b) is log-uniform in low..high (Gu & Dao 2023, Mamba, arXiv:2312.00752, section 3.6)."""
    dt = (torch.rand(shape, generator=generator) * math.log(high / low)).exp() * low
    return dt + torch.log(-torch.expm1(-dt))


def in_full_precision(*tensors: Tensor) -> tuple[Tensor, ...]:
    """float32, or float64 where it came so: what a recurrence is computed in."""
    return tuple(t if t.dtype == torch.float64 else t.float() for t in tensors)
