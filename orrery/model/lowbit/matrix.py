"""A weight matrix as layers see it: what it can do, whichever kernel does it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from orrery.model.lowbit.pack import Packed


class Matrix(ABC):
    """N rows (outputs) and K columns (inputs)."""

    shape: tuple[int, int]

    @abstractmethod
    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        """(T, K) contiguous float32, T >= 1 -> (T, N) float32; each activation in one or two terms of 8 bits."""

    @abstractmethod
    def rows(self, ids: Tensor) -> Tensor:
        """(T,) contiguous int64 within range -> (T, K) float32: rows, dequantised."""

    def piece(self, first: int, last: int) -> Tensor:
        """(last - first, K) float32: neighbouring rows, dequantised."""
        return self.rows(torch.arange(first, last))

    @abstractmethod
    def blocks(self) -> Tensor:
        """(N, bytes of a row) uint8: the file's bytes."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory taken."""

    @property
    @abstractmethod
    def finite(self) -> bool:
        """No weight is NaN or infinite."""


class PackedMatrix(Matrix):
    """A matrix whose rows are packed blocks; a kernel says how it multiplies."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.shape = (packed.rows, packed.columns)

    def blocks(self) -> Tensor:
        return self.packed.blocks()

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes

    @property
    def finite(self) -> bool:
        return self.packed.finite


class DenseMatrix(Matrix):
    """What no kernel multiplies as it is: float32 weights beside the file's bytes."""

    def __init__(self, raw: Tensor, kind: str) -> None:
        from orrery.model.quant import dequantize

        self.raw, self.weight = raw, dequantize(raw, kind)
        self.shape = (self.weight.shape[0], self.weight.shape[1])

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        from orrery.model.lowbit import ops  # which asks `choice`, which makes matrices

        return ops.linear(x, self.weight)

    def rows(self, ids: Tensor) -> Tensor:
        return self.weight[ids]

    def blocks(self) -> Tensor:
        return self.raw

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    @property
    def finite(self) -> bool:
        return bool(self.weight.isfinite().all())
