"""The weights of a stack of experts, each block-quantised: what takes the place of one of `Experts`' parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from orrery.model.lowbit.linear import QuantLinear


class QuantStack(nn.Module):
    """One matrix for each expert. Inference only, on a CPU, as `QuantLinear`."""

    def __init__(self, experts: Sequence[QuantLinear]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        first = experts[0]
        self.weight_kind = first.weight_kind
        # As the parameter it stands for has it: (experts, in, out).
        self.shape = torch.Size((len(experts), first.in_features, first.out_features))

    @classmethod
    def from_blocks(cls, raw: Tensor, kind: str) -> Self:
        """Take the rows of all experts, (E, out, bytes of a row) uint8.

        Raises:
            OrreryError: the bytes are not rows of that kind.
        """
        return cls([QuantLinear.from_blocks(rows, kind) for rows in raw])

    def forward(self, rows: Tensor, ends: Tensor) -> Tensor:
        """(R, in) rows, expert by expert, `ends` (E,) where each one's rows end -> (R, out); zero after the last."""
        out, start = rows.new_zeros(rows.shape[0], self.shape[2]), 0
        for expert, end in zip(self.experts, ends.tolist(), strict=True):
            if end > start:
                out[start:end] = expert(rows[start:end])
            start = end
        return out

    def blocks(self) -> Tensor:
        """(E, out, bytes of a row) uint8: exactly the bytes it was made from."""
        return torch.stack([expert.blocks() for expert in self.experts])  # type: ignore[not-callable]
