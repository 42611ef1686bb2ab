"""Training through weights that stay quantised: what a frozen product passes back, and no float copy of the model.

    y = x W^T,   dL/dx = dL/dy W

The forward pass is the one that serving uses. Backward, W is dequantised a piece at a time and forgotten: the memory is a few megabytes
whatever the model. That activations are rounded on the way forward is passed over, as it is when weights are trained against their rounding
(the straight-through estimator of Bengio et al. 2013, arXiv:1308.3432). T tokens, N rows (outputs), K columns (inputs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orrery.model.lowbit.matrix import Matrix

PIECE = 1 << 20
"""Weights dequantised at a time: 4 MiB as floats, which a second-level cache still holds in part."""


@dataclass(frozen=True)
class FrozenWeight:
    """A quantised matrix as a head's weight: (N, K), each activation in `terms` numbers of 8 bits."""

    matrix: Matrix
    terms: int

    dtype = torch.float32

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def product(self, x: Tensor) -> Tensor:
        """(T, K) -> (T, N) float32."""
        return self.matrix.multiply(x.float().contiguous(), self.terms)

    def back(self, grad: Tensor) -> Tensor:
        """(T, N) -> (T, K) float32."""
        return back(self.matrix, grad)


class FrozenProduct(torch.autograd.Function):
    """x W^T with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Matrix, terms: int) -> Tensor:
        ctx.matrix = matrix
        return matrix.multiply(x.contiguous(), terms)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return back(ctx.matrix, grad), None, None


def back(matrix: Matrix, grad: Tensor) -> Tensor:
    """grad W, (T, N) -> (T, K) float32, W a piece of rows at a time."""
    n, k = matrix.shape
    grad = grad.float()
    out = grad.new_zeros(len(grad), k)
    step = max(1, PIECE // k)
    with torch.no_grad():
        for first in range(0, n, step):
            last = min(first + step, n)
            out.addmm_(grad[:, first:last], matrix.piece(first, last))
    return out
