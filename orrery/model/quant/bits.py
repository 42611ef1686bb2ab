"""Fields inside bytes: what every block format is made of.

All functions work on many blocks at once: N blocks, one row each. Numbers of several bytes are little-endian.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError


def split(packed: Tensor, shifts: range, bits: int) -> Tensor:
    """Take small unsigned integers out of bytes: (..., B) uint8 -> (..., len(shifts), B) uint8.

    Entry [k, b] is the `bits` bits of byte b that begin at bit shifts[k]. So the numbers of one shift lie side by side,
    which is the order of ggml: a byte holds numbers that are B apart, never neighbours.
    """
    mask = (1 << bits) - 1
    return torch.stack([(packed >> shift) & mask for shift in shifts], dim=-2)


def join(fields: Tensor, shifts: range) -> Tensor:
    """The inverse of `split`: (..., len(shifts), B) unsigned integers -> (..., B) uint8."""
    parts = fields.to(torch.uint8).unbind(-2)
    packed = parts[0] << shifts[0]
    for part, shift in zip(parts[1:], shifts[1:], strict=True):
        packed = packed | (part << shift)
    return packed


def half(blocks: Tensor, at: int) -> Tensor:
    """(N, 1) float32: the half-precision number at byte `at` of every block."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def half_bytes(x: Tensor) -> Tensor:
    """(N, 1) float32 -> (N, 2) uint8, rounded to the nearest half; raises OrreryError where that is infinite."""
    return round_half(x).to(torch.float16).contiguous().view(torch.uint8)


def round_half(x: Tensor) -> Tensor:
    """`x` as a half-precision field will give it back, in float32; raises OrreryError where that is infinite."""
    rounded = x.to(torch.float16).float()
    if not rounded.isfinite().all():
        raise _beyond_half(x)
    return rounded


def check_reach(peak: Tensor) -> None:
    """Raise OrreryError where numbers are so large that their squares leave float32: no scale in half precision can
    cover them either (one below 65504 reaches 65504 * 128 * 128 at most)."""
    if peak.numel() and peak.abs().max() > 1e14:
        raise _beyond_half(peak)


def inverse(x: Tensor) -> Tensor:
    """1/x, and 0 where x is 0 or so small that 1/x is infinite: dividing by an empty scale leaves zeros."""
    return torch.where(x.abs() < torch.finfo(torch.float32).tiny, 0.0, 1.0 / x)


def _beyond_half(x: Tensor) -> OrreryError:
    return OrreryError(
        f"a block reaches or needs a scale of {x.abs().max().item():.3g}, but the format keeps scales in half "
        "precision, at most 65504: scale the tensor down, or store it as F32 or BF16"
    )
