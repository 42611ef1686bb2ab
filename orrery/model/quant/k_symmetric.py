"""The K formats without offsets: Q3_K and Q6_K. Super-blocks of 256 in 16 sub-blocks of 16, value = (d scale) q.

    kind  bytes  bits/weight  scale     q         layout (byte ranges)
    Q3_K    110       3.4375  -32..31   -4..3     high bits 0-31, low bits 32-95, scales 96-107, d 108-109
    Q6_K    210       6.5625  -128..127 -32..31   low bits 0-127, high bits 128-191, scales 192-207, d 208-209

Stored q and Q3_K's stored scales are unsigned: 4, 32 and 32 are taken off. d is half-precision.

Q3_K: a byte of low bits holds the lower two bits of four numbers 32 apart within each half (128 numbers, 32 bytes); byte j of
the high bits holds the third bit of numbers j, j + 32, ..., j + 224, lowest bit first. Scales: byte j of the first eight
holds the low four bits of scale j and, above them, of scale j + 8; byte j of the last four the upper two bits of
scales j, j + 4, j + 8, j + 12, lowest first.
Q6_K, in each half: a byte of low bits holds the lower four bits of two numbers 64 apart, a byte of high bits the upper two
bits of four numbers 32 apart. Scales are signed bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.quant.bits import half, half_bytes, join, split
from orrery.model.quant.search import Symmetric, around, fit_symmetric, integers, weights

PAIRS = range(0, 8, 2)
NIBBLES = range(0, 8, 4)
BITS = range(8)


def decode_q3_k(blocks: Tensor, out: Tensor) -> None:
    """(N, 110) uint8 -> (N, 256)."""
    low = split(blocks[:, 32:96].unflatten(-1, (2, 32)), PAIRS, 2).reshape(-1, 8, 32)
    q = (low | (split(blocks[:, :32], BITS, 1) << 2)).reshape(-1, 16, 16)
    scale = split(blocks[:, 96:104], NIBBLES, 4).flatten(-2)
    scale = scale | (split(blocks[:, 104:108], PAIRS, 2).flatten(-2) << 4)
    d = half(blocks, 108) * (scale.float() - 32)
    out.view(q.shape).copy_(q).sub_(4).mul_(d[..., None])


def decode_q6_k(blocks: Tensor, out: Tensor) -> None:
    """(N, 210) uint8 -> (N, 256)."""
    low = split(blocks[:, :128].unflatten(-1, (2, 64)), NIBBLES, 4).reshape(-1, 2, 4, 32)
    high = split(blocks[:, 128:192].unflatten(-1, (2, 32)), PAIRS, 2)
    q = (low | (high << 4)).reshape(-1, 16, 16)
    d = half(blocks, 208) * blocks[:, 192:208].view(torch.int8)
    out.view(q.shape).copy_(q).sub_(32).mul_(d[..., None])


def encode_q3_k(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 110) uint8."""
    fit = _fit(x, w, middle=4, scale_middle=32, factors=around(0.7, 1.2, 13))
    q = (fit.q + 4).to(torch.uint8)
    scale = (fit.scale[..., 0] + 32).to(torch.uint8)
    low = join((q & 3).reshape(-1, 2, 4, 32), PAIRS).flatten(-2)
    high = join((q >> 2).reshape(-1, 8, 32), BITS)
    scales_low = join((scale & 15).unflatten(-1, (2, 8)), NIBBLES)
    scales_high = join((scale >> 4).unflatten(-1, (4, 4)), PAIRS)
    return torch.cat((high, low, scales_low, scales_high, half_bytes(fit.d[:, 0])), dim=-1)


def encode_q6_k(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 210) uint8."""
    fit = _fit(x, w, middle=32, scale_middle=128, factors=around(0.9, 1.05, 13))
    q = (fit.q + 32).to(torch.uint8)
    low = join((q & 15).reshape(-1, 2, 2, 64), NIBBLES).flatten(-2)
    high = join((q >> 4).reshape(-1, 2, 4, 32), PAIRS).flatten(-2)
    scale = fit.scale[..., 0].to(torch.int8).view(torch.uint8)
    return torch.cat((low, high, scale, half_bytes(fit.d[:, 0])), dim=-1)


def _fit(x: Tensor, w: Tensor | None, *, middle: int, scale_middle: int, factors: list[float]) -> Symmetric:
    rows = x.unflatten(-1, (16, 16))
    nearest, edge = integers(-middle, middle - 1), -float(middle)
    weight = weights(x, w).view(rows.shape)
    return fit_symmetric(rows, weight, nearest, edge, factors, -scale_middle, scale_middle - 1)
