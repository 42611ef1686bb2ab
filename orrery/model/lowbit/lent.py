"""Memory that is lent: it comes back when the last tensor over it is gone.

    out = large(16, 262_144)      # the block that the last such result lay in, if nobody looks at it any more

The system clears every page of a fresh block, which for the logits of 16 tokens takes a third as long as computing them.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

LEAST, MOST = 8 << 20, 64 << 20
"""Bytes of what is worth keeping: below, malloc keeps it anyway; above, it is too much to hold idle."""

_spare: deque[Tensor] = deque(maxlen=1)  # appending and taking are atomic


def large(rows: int, columns: int) -> Tensor:
    """(rows, columns) float32 on the CPU, with anything in it."""
    size = 4 * rows * columns
    if not LEAST <= size <= MOST:
        return torch.empty(rows, columns)
    base = _taken()
    if base is None or base.numel() < size:
        base = torch.empty(size, dtype=torch.uint8)
    return lent(base, torch.Size((rows, columns)), torch.float32, _spare.append)


def _taken() -> Tensor | None:
    try:
        return _spare.pop()
    except IndexError:
        return None


def lent(base: Tensor, shape: torch.Size, dtype: torch.dtype, back: Callable[[Tensor], None]) -> Tensor:
    """A tensor over the bytes of `base`; `back(base)` is called when no tensor lies over them any more."""
    window = (ctypes.c_char * base.numel()).from_address(base.data_ptr())  # lives as long as tensors over it
    weakref.finalize(window, back, base)
    return torch.frombuffer(window, dtype=dtype, count=shape.numel()).view(shape)
