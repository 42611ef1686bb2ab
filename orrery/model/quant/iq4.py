"""Four bits into an uneven code book: IQ4_NL (blocks of 32) and IQ4_XS (super-blocks of 256).

    kind    bytes  bits/weight  layout (byte ranges)                                            value
    IQ4_NL     18         4.5   d 0-1, codes 2-17                                               d book[code]
    IQ4_XS    136        4.25   d 0-1, scales' high bits 2-3, low bits 4-7, codes 8-135         d scale book[code]

The book's 16 values lie closer together near 0, where weights are many. A code byte holds numbers 16 apart, low four bits
first, within each 32. In IQ4_XS each of the eight 32s has a six-bit scale, stored with 32 added: byte j of the low bits holds
the low four bits of scales 2j and 2j + 1; the upper two bits of scale j are bits 2j, 2j + 1 of the high bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.quant.bits import half, half_bytes, inverse, join, round_half, split
from orrery.model.quant.search import around, fit_scale, fit_symmetric, weights

BOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
PAIRS = range(0, 8, 2)
NIBBLES = range(0, 8, 4)
FACTORS = around(0.75, 1.15, 9) + around(
    -1.1, -0.7, 9
)  # the book is not symmetric: try the peak on either end

# Middles between neighbours of the book are multiples of 1/2, so the nearest code of u depends on floor(2u) alone.
REACH = 256
CODE_OF = torch.bucketize(
    torch.arange(-REACH, REACH + 1) / 2 + 0.25, torch.tensor(BOOK).unfold(0, 2, 1).float().mean(-1)
).to(torch.uint8)


def nearest_code(u: Tensor) -> Tensor:
    """The code (uint8, 0..15) of the book's value nearest to u, elementwise."""
    at = (2 * u).floor_().clamp_(-REACH, REACH).add_(REACH).to(torch.int32)
    return CODE_OF.to(u.device).index_select(0, at.flatten()).view(u.shape)


def book(code: Tensor) -> Tensor:
    """The book's values (float32) at codes 0..15."""
    values = torch.tensor(BOOK, dtype=torch.float32, device=code.device)
    return values.index_select(0, code.to(torch.int32).flatten()).view(code.shape)


def _nearest(u: Tensor) -> Tensor:
    return book(nearest_code(u))


def decode_iq4_nl(blocks: Tensor, out: Tensor) -> None:
    """(N, 18) uint8 -> (N, 32)."""
    torch.mul(book(split(blocks[:, 2:], NIBBLES, 4).flatten(-2)), half(blocks, 0), out=out)


def decode_iq4_xs(blocks: Tensor, out: Tensor) -> None:
    """(N, 136) uint8 -> (N, 256)."""
    high = split(blocks[:, 2:4], PAIRS, 2).transpose(-1, -2).flatten(-2)
    low = split(blocks[:, 4:8], NIBBLES, 4).transpose(-1, -2).flatten(-2)
    d = half(blocks, 0) * ((low | (high << 4)).float() - 32)
    codes = split(blocks[:, 8:].unflatten(-1, (8, 16)), NIBBLES, 4).flatten(-2)
    torch.mul(book(codes), d[..., None], out=out.view(codes.shape))


def encode_iq4_nl(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 18) uint8."""
    d = fit_scale(x, weights(x, w), _nearest, float(BOOK[0]), FACTORS)
    codes = nearest_code(x * inverse(round_half(d)))
    return torch.cat((half_bytes(d), join(codes.unflatten(-1, (2, 16)), NIBBLES)), dim=-1)


def encode_iq4_xs(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 136) uint8."""
    rows = x.unflatten(-1, (8, 32))
    fit = fit_symmetric(rows, weights(x, w).view(rows.shape), _nearest, float(BOOK[0]), FACTORS, -32, 31)
    scale = (fit.scale[..., 0] + 32).to(torch.uint8)
    high = join((scale >> 4).unflatten(-1, (2, 4)).transpose(-1, -2), PAIRS)
    low = join((scale & 15).unflatten(-1, (4, 2)).transpose(-1, -2), NIBBLES)
    codes = join(nearest_code(fit.q).unflatten(-1, (2, 16)), NIBBLES).flatten(-2)
    return torch.cat((half_bytes(fit.d[:, 0]), high, low, codes), dim=-1)
