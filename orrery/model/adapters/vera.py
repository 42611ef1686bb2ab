"""VeRA: random projections that all layers share and nobody trains; a layer learns two vectors.

    y = x W^T + b * (B (d * (A x)))       A (r, in), B (out, r) fixed; d (r,), b (out,) learned
    Kopiczko et al. 2023, arXiv:2310.11454, eq. 2

Layers of different sizes use the first columns of A and the first rows of B.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.model.adapters.part import Part, Rows, misfit, rows_product


class VeraVectors(Part):
    """The two vectors of one layer; `a` and `b` are views of what all layers share."""

    a: Tensor
    b: Tensor

    def __init__(self, a: Tensor, b: Tensor, *, inner: Tensor, outer: Tensor, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("a", a, persistent=False)  # (r, in)
        self.register_buffer("b", b, persistent=False)  # (out, r)
        self.inner, self.outer = (nn.Parameter(t.float(), requires_grad=False) for t in (inner, outer))
        self.dropout = dropout

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        x = F.dropout(x.float(), self.dropout) if self.dropout and self.training else x.float()
        made = rows_product(rows_product(x, self.a) * self.inner, self.b) * self.outer
        return y + made.to(y.dtype)

    def fits(self, module: nn.Module) -> str | None:
        return misfit(module, len(self.b), self.a.shape[1])

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight + (self.outer[:, None] * self.b) @ (self.inner[:, None] * self.a), bias


def projections(rank: int, out: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """A (rank, width) and B (out, rank), uniform within sqrt(6 / fan in) (He et al. 2015), in the order that peft draws them."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        torch.empty(shape).uniform_(-((6 / shape[1]) ** 0.5), (6 / shape[1]) ** 0.5, generator=generator)
        for shape in ((rank, width), (out, rank))
    )
    return a, b
