"""The K formats with offsets: Q2_K, Q4_K, Q5_K. Super-blocks of 256, value = (d scale) q - (m offset).

    kind  bytes  bits/weight  sub-blocks  scale, offset  layout (byte ranges)
    Q2_K     84       2.625   16 x 16     4 bits each    scales 0-15, q 16-79, d 80-81, m 82-83
    Q4_K    144       4.5      8 x 32     6 bits each    d 0-1, m 2-3, scales 4-15, q 16-143
    Q5_K    176       5.5      8 x 32     6 bits each    d 0-1, m 2-3, scales 4-15, fifth bits 16-47, q 48-175

d and m are half-precision. In Q2_K a byte of `scales` holds a sub-block's scale (low four bits) and offset (high four); a
byte of q holds four numbers that are 32 apart, within each half (128 numbers, 32 bytes) of the super-block. In Q4_K and
Q5_K a byte of q holds two numbers 32 apart within each quarter (64 numbers, 32 bytes); byte j of the fifth bits serves
number j of all eight sub-blocks, lowest bit first.

The twelve bytes of scales, for sub-blocks 0-7: bytes 0-3 hold scales 0-3 in their low six bits and the upper two bits of
scales 4-7 above them; bytes 4-7 the offsets in the same way; bytes 8-11 the low four bits of scales 4-7 in their low half
and those of offsets 4-7 in their high half.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.quant.bits import half, half_bytes, join, split
from orrery.model.quant.search import Affine, around, fit_affine, weights

PAIRS = range(0, 8, 2)
NIBBLES = range(0, 8, 4)
BITS = range(8)


def unpack_scales(packed: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 12) uint8 -> scales (N, 8), offsets (N, 8), 0..63: the six-bit fields of Q4_K and Q5_K."""
    first, second, rest = packed.split(4, dim=-1)
    scale = torch.cat((first & 63, (rest & 15) | ((first >> 6) << 4)), dim=-1)
    offset = torch.cat((second & 63, (rest >> 4) | ((second >> 6) << 4)), dim=-1)
    return scale, offset


def pack_scales(scale: Tensor, offset: Tensor) -> Tensor:
    """The inverse of `unpack_scales`: two (N, 8) in 0..63 -> (N, 12) uint8."""
    (s, s_late), (o, o_late) = (t.to(torch.uint8).split(4, dim=-1) for t in (scale, offset))
    return torch.cat(
        (s | ((s_late >> 4) << 6), o | ((o_late >> 4) << 6), (s_late & 15) | ((o_late & 15) << 4)), dim=-1
    )


def decode_q2_k(blocks: Tensor, out: Tensor) -> None:
    """(N, 84) uint8 -> (N, 256)."""
    scales = blocks[:, :16]
    q = split(blocks[:, 16:80].unflatten(-1, (2, 32)), PAIRS, 2)
    _scaled(out, q.reshape(-1, 16, 16), half(blocks, 80) * (scales & 15), half(blocks, 82) * (scales >> 4))


def decode_q4_k(blocks: Tensor, out: Tensor) -> None:
    """(N, 144) uint8 -> (N, 256)."""
    scale, offset = unpack_scales(blocks[:, 4:16])
    q = split(blocks[:, 16:].unflatten(-1, (4, 32)), NIBBLES, 4)
    _scaled(out, q.reshape(-1, 8, 32), half(blocks, 0) * scale, half(blocks, 2) * offset)


def decode_q5_k(blocks: Tensor, out: Tensor) -> None:
    """(N, 176) uint8 -> (N, 256)."""
    scale, offset = unpack_scales(blocks[:, 4:16])
    q = split(blocks[:, 48:].unflatten(-1, (4, 32)), NIBBLES, 4).reshape(-1, 8, 32)
    q = q | (split(blocks[:, 16:48], BITS, 1) << 4)
    _scaled(out, q, half(blocks, 0) * scale, half(blocks, 2) * offset)


def encode_q2_k(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 84) uint8."""
    fit = _fit(x, w, sub_blocks=16, top=3, cap=15, factors=around(0.7, 1.25, 17))
    scales = fit.scale[..., 0].to(torch.uint8) | (fit.offset[..., 0].to(torch.uint8) << 4)
    q = join(fit.q.reshape(-1, 2, 4, 32), PAIRS).flatten(-2)
    return torch.cat((scales, q, half_bytes(fit.d[:, 0]), half_bytes(fit.m[:, 0])), dim=-1)


def encode_q4_k(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 144) uint8."""
    fit = _fit(x, w, sub_blocks=8, top=15, cap=63, factors=around(0.9, 1.15, 17))
    return torch.cat((_head(fit), _pack_nibbles(fit.q)), dim=-1)


def encode_q5_k(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 176) uint8."""
    fit = _fit(x, w, sub_blocks=8, top=31, cap=63, factors=around(0.95, 1.1, 17))
    q = fit.q.to(torch.uint8)
    return torch.cat((_head(fit), join(q >> 4, BITS), _pack_nibbles(q & 15)), dim=-1)


def _scaled(out: Tensor, q: Tensor, scale: Tensor, offset: Tensor) -> None:
    """out = scale q - offset; q (N, S, n), scale and offset (N, S)."""
    out.view(q.shape).copy_(q).mul_(scale[..., None]).sub_(offset[..., None])


def _fit(x: Tensor, w: Tensor | None, *, sub_blocks: int, top: int, cap: int, factors: list[float]) -> Affine:
    rows = x.unflatten(-1, (sub_blocks, -1))
    return fit_affine(rows, weights(x, w).view(rows.shape), top, cap, factors)


def _head(fit: Affine) -> Tensor:
    """(N, 16): d, m and the packed scales of Q4_K and Q5_K."""
    scales = pack_scales(fit.scale[..., 0], fit.offset[..., 0])
    return torch.cat((half_bytes(fit.d[:, 0]), half_bytes(fit.m[:, 0]), scales), dim=-1)


def _pack_nibbles(q: Tensor) -> Tensor:
    """(N, 8, 32) in 0..15 -> (N, 128)."""
    return join(q.reshape(-1, 4, 2, 32), NIBBLES).flatten(-2)
