"""A weight matrix in NF4 (`model.quant.nf4`): dequantised a piece at a time, multiplied as floats."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.lowbit import ops
from orrery.model.lowbit.matrix import Matrix
from orrery.model.quant.nf4 import Nf4

PIECE = 1 << 20


class Nf4Matrix(Matrix):
    """Rows of NF4 codes. Activations are not rounded, so `terms` makes no difference."""

    def __init__(self, held: Nf4) -> None:
        self.held = held
        self.shape = (held.shape[0], held.shape[1])

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        n, k = self.shape
        out, step = x.new_empty(len(x), n), max(1, PIECE // k)
        with torch.no_grad():
            for first in range(0, n, step):
                last = min(first + step, n)
                out[:, first:last] = ops.linear(x, self.piece(first, last))
        return out

    def rows(self, ids: Tensor) -> Tensor:
        if not len(ids):
            return torch.empty(0, self.shape[1])
        return torch.cat([self.piece(i, i + 1) for i in ids.tolist()])

    def piece(self, first: int, last: int) -> Tensor:
        k = self.shape[1]
        return self.held.numbers(first * k, last * k).view(-1, k)

    def blocks(self) -> Tensor:
        raise OrreryError(
            "NF4 is for training and has no bytes in a GGUF file; convert the model it was made from"
        )

    @property
    def nbytes(self) -> int:
        return self.held.nbytes

    @property
    def finite(self) -> bool:
        return bool(self.held.steps.isfinite().all())
