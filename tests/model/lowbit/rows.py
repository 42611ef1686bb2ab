"""Block-quantised rows for the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.lowbit.kinds import KINDS
from orrery.model.quant import dequantize, quantize


def random_bytes(kind: str, n: int, k: int, seed: int = 0) -> Tensor:
    """(n, bytes) rows of k columns in which every bit is chance, NaN scales and unused codes included."""
    size = k // KINDS[kind].block * KINDS[kind].size
    return torch.randint(0, 256, (n, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def weights(kind: str, n: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of real numbers quantised: (n, bytes), and what they stand for, (n, k) float32."""
    x = torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 0.05
    raw = quantize(x, kind)
    return raw, dequantize(raw, kind)


def activations(t: int, k: int, seed: int = 1, *, outliers: float = 1.0) -> Tensor:
    """(t, k), one column in a hundred `outliers` times as large as the others."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(t, k, generator=g)
    x[:, torch.randint(0, k, (max(1, k // 100),), generator=g)] *= outliers
    return x
