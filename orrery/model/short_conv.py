"""A short causal convolution over time, each channel by itself: the few tokens before are mixed in ahead of a recurrence.

    y_t = act(sum_{k < K} w_k x_{t-K+1+k} + b)

T tokens, C channels, K taps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShortConv(nn.Module):
    """The state is the last K - 1 inputs, (K - 1, C); None stands for zeros."""

    def __init__(self, channels: int, taps: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(channels, 1, taps)
        )  # as nn.Conv1d with a group for each channel has it
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform within 1 / sqrt(K), torch's own start of a convolution with K inputs to each output."""
        bound = self.weight.shape[-1] ** -0.5
        for parameter in self.parameters():
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """(T, C), state -> (T, C), state. A sum over taps, in one order however the tokens are split into pieces."""
        channels, _, taps = self.weight.shape
        before = x.new_zeros(taps - 1, channels) if state is None else state.to(x.dtype)
        seen = torch.cat((before, x))
        weight = self.weight.squeeze(1).to(x.dtype)
        y = seen[: len(x)] * weight[:, 0]
        for k in range(1, taps):
            y = torch.addcmul(y, seen[k : k + len(x)], weight[:, k])
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return F.silu(y), seen[
            len(x) :
        ].clone()  # a copy, so that the state does not hold on to the whole sequence
