"""Ternary weights, super-blocks of 256, value = d t with t in -1, 0, 1: TQ1_0 and TQ2_0.

    kind   bytes  bits/weight  layout (byte ranges)
    TQ1_0     54       1.6875  five per byte 0-47, four per byte 48-51, d 52-53
    TQ2_0     66       2.0625  four per byte 0-63, d 64-65

TQ2_0 stores t + 1 in two bits; a byte holds numbers 32 apart within each half (128 numbers, 32 bytes).
TQ1_0 writes t + 1 as digits of a number in base 3, most significant first, and stores ceil(256 number / 243): as a fraction
of 256 the first digit is then the whole part of 3 byte / 256, and multiplying by 3 modulo 256 brings up the next. Bytes 0-31
hold numbers 32 apart (0-159), bytes 32-47 numbers 16 apart (160-239), bytes 48-51 numbers 4 apart (240-255, four digits and
a zero).

The encoders take d = max |x| and round x/d: exact for weights that are ternary already, which is what the formats are for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.quant.bits import half, half_bytes, inverse, join, split
from orrery.model.quant.legacy import round_away

PAIRS = range(0, 8, 2)
GROUPS = ((32, 5), (16, 5), (4, 4))  # bytes, digits in each


def decode_tq1_0(blocks: Tensor, out: Tensor) -> None:
    """(N, 54) uint8 -> (N, 256)."""
    digits = []
    for packed, (_, count) in zip(
        blocks[:, :52].split([size for size, _ in GROUPS], dim=-1), GROUPS, strict=True
    ):
        powers = torch.tensor([3**i for i in range(count)], dtype=torch.uint8, device=blocks.device)
        shifted = packed[:, None, :] * powers[:, None]  # uint8: modulo 256
        digits.append(((shifted.to(torch.int16) * 3) >> 8).flatten(-2))
    out.copy_(torch.cat(digits, dim=-1)).sub_(1).mul_(half(blocks, 52))


def decode_tq2_0(blocks: Tensor, out: Tensor) -> None:
    """(N, 66) uint8 -> (N, 256)."""
    digits = split(blocks[:, :64].unflatten(-1, (2, 32)), PAIRS, 2)
    out.copy_(digits.reshape(-1, 256)).sub_(1).mul_(half(blocks, 64))


def encode_tq1_0(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 54) uint8; the importance does not matter."""
    d, digits = _ternary(x)
    packed = []
    for part, (size, count) in zip(
        digits.to(torch.int32).split([size * count for size, count in GROUPS], dim=-1), GROUPS, strict=True
    ):
        powers = torch.tensor([3 ** (4 - i) for i in range(count)], dtype=torch.int32, device=x.device)
        number = (part.unflatten(-1, (count, size)) * powers[:, None]).sum(-2)
        packed.append(((number * 256 + 242) // 243).to(torch.uint8))
    return torch.cat((*packed, half_bytes(d)), dim=-1)


def encode_tq2_0(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 256) -> (N, 66) uint8; the importance does not matter."""
    d, digits = _ternary(x)
    return torch.cat((join(digits.reshape(-1, 2, 4, 32), PAIRS).flatten(-2), half_bytes(d)), dim=-1)


def _ternary(x: Tensor) -> tuple[Tensor, Tensor]:
    """d (N, 1) and digits (N, 256) uint8 in 0..2."""
    d = x.abs().amax(-1, keepdim=True)
    return d, (round_away(x * inverse(d)) + 1).to(torch.uint8)
