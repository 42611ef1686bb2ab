"""Blocks of 32 with one half-precision scale: Q8_0, Q4_0, Q5_0, and with an offset too: Q4_1, Q5_1.

    kind   bytes  bits/weight  layout (byte ranges)                              value
    Q8_0      34         8.5   d 0-1, 32 signed bytes q 2-33                     d q
    Q4_0      18         4.5   d 0-1, nibbles 2-17                               d (q - 8)
    Q4_1      20         5     d 0-1, m 2-3, nibbles 4-19                        d q + m
    Q5_0      22         5.5   d 0-1, fifth bits 2-5, nibbles 6-21               d (q - 16)
    Q5_1      24         6     d 0-1, m 2-3, fifth bits 4-7, nibbles 8-23        d q + m

Nibble byte j holds number j in its low and number j + 16 in its high four bits; of the fifth bits, bit i (counted from the
lowest bit of the first byte) belongs to number i.

Without an importance the encoders give the bytes of ggml's reference: the number of largest magnitude is put on the far end
of the range (Q4_0, Q5_0, Q8_0), or lowest and highest on the two ends (Q4_1, Q5_1). With one, the scale (and offset) of
least weighted error is searched for; Q8_0 is fine enough to do without.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.quant.bits import half, half_bytes, inverse, join, round_half, split
from orrery.model.quant.search import around, fit_scale, fit_scale_and_offset, integers

NIBBLES = range(0, 8, 4)
BITS = range(8)


def _nibbles(packed: Tensor) -> Tensor:
    """(N, 16) -> (N, 32) in 0..15."""
    return split(packed, NIBBLES, 4).flatten(-2)


def _fifth(packed: Tensor) -> Tensor:
    """(N, 4) -> (N, 32): 16 where the number's fifth bit is set, else 0."""
    return split(packed, BITS, 1).transpose(-1, -2).flatten(-2) << 4


def decode_q8_0(blocks: Tensor, out: Tensor) -> None:
    """(N, 34) uint8 -> (N, 32)."""
    out.copy_(blocks[:, 2:].view(torch.int8)).mul_(half(blocks, 0))


def decode_q4_0(blocks: Tensor, out: Tensor) -> None:
    """(N, 18) uint8 -> (N, 32)."""
    out.copy_(_nibbles(blocks[:, 2:])).sub_(8).mul_(half(blocks, 0))


def decode_q4_1(blocks: Tensor, out: Tensor) -> None:
    """(N, 20) uint8 -> (N, 32)."""
    out.copy_(_nibbles(blocks[:, 4:])).mul_(half(blocks, 0)).add_(half(blocks, 2))


def decode_q5_0(blocks: Tensor, out: Tensor) -> None:
    """(N, 22) uint8 -> (N, 32)."""
    out.copy_(_nibbles(blocks[:, 6:]) | _fifth(blocks[:, 2:6])).sub_(16).mul_(half(blocks, 0))


def decode_q5_1(blocks: Tensor, out: Tensor) -> None:
    """(N, 24) uint8 -> (N, 32)."""
    q = _nibbles(blocks[:, 8:]) | _fifth(blocks[:, 4:8])
    out.copy_(q).mul_(half(blocks, 0)).add_(half(blocks, 2))


def encode_q8_0(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 34) uint8; halves are rounded away from zero, as ggml does."""
    d = x.abs().amax(-1, keepdim=True) / 127
    q = round_away(x * inverse(d)).to(torch.int8)
    return torch.cat((half_bytes(d), q.view(torch.uint8)), dim=-1)


def encode_q4_0(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 18) uint8."""
    d, q = _symmetric(x, w, 8)
    return torch.cat((half_bytes(d), _pack_nibbles(q)), dim=-1)


def encode_q4_1(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 20) uint8."""
    d, m, q = _affine(x, w, 15)
    return torch.cat((half_bytes(d), half_bytes(m), _pack_nibbles(q)), dim=-1)


def encode_q5_0(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 22) uint8."""
    d, q = _symmetric(x, w, 16)
    return torch.cat((half_bytes(d), _pack_fifth(q), _pack_nibbles(q)), dim=-1)


def encode_q5_1(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 24) uint8."""
    d, m, q = _affine(x, w, 31)
    return torch.cat((half_bytes(d), half_bytes(m), _pack_fifth(q), _pack_nibbles(q)), dim=-1)


def round_away(x: Tensor) -> Tensor:
    """Round to the nearest whole number, halves away from zero (torch.round takes them to the even one)."""
    magnitude = x.abs()
    whole = magnitude.floor()
    return x.sign() * (whole + (2 * (magnitude - whole)).floor())


def _symmetric(x: Tensor, w: Tensor | None, middle: int) -> tuple[Tensor, Tensor]:
    """The scale (N, 1) and the stored numbers (N, 32) in 0..2*middle-1, which stand for -middle..middle-1."""
    if w is None:
        d = x.gather(-1, x.abs().argmax(-1, keepdim=True)) / -middle
        q = (x * inverse(d) + (middle + 0.5)).clamp(0, 2 * middle - 1)  # cutting off the fraction rounds
        return d, q.to(torch.uint8)
    nearest = integers(-middle, middle - 1)
    d = fit_scale(x, w, nearest, -float(middle), around(0.8, 1.15, 17))
    return d, (nearest(x * inverse(round_half(d))) + middle).to(torch.uint8)


def _affine(x: Tensor, w: Tensor | None, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and offset (N, 1), and the stored numbers (N, 32) in 0..top."""
    if w is None:
        m = x.amin(-1, keepdim=True)
        d = (x.amax(-1, keepdim=True) - m) / top
        return d, m, ((x - m) * inverse(d) + 0.5).clamp(0, top).to(torch.uint8)
    # the search wants an offset below 0: measured from the block's highest number, every useful one is
    high = x.amax(-1, keepdim=True)
    d, m = fit_scale_and_offset(x - high, w, top, around(0.9, 1.15, 17))
    d, m = round_half(d), round_half(high - m)
    return d, m, ((x - m) * inverse(d)).round_().clamp_(0, top).to(torch.uint8)


def _pack_nibbles(q: Tensor) -> Tensor:
    """(N, 32) -> (N, 16): the low four bits of each number."""
    return join((q & 15).unflatten(-1, (2, 16)), NIBBLES)


def _pack_fifth(q: Tensor) -> Tensor:
    """(N, 32) -> (N, 4): the fifth bit of each number."""
    return join((q >> 4).unflatten(-1, (4, 8)).transpose(-1, -2), BITS)
