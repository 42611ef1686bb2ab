"""MXFP4: blocks of 32 four-bit floats under one power of two (Open Compute Project, Microscaling Formats v1.0, 2023).

17 bytes, 4.25 bits per weight: the exponent e in byte 0, codes in bytes 1-16 (byte j: number j in the low four bits,
j + 16 in the high four). A code is a sign bit above a two-bit exponent and one bit of mantissa, so the magnitudes are
0, 1/2, 1, 3/2, 2, 3, 4, 6, and the value is 2^(e - 127) times that. ggml doubles the magnitudes and halves the scale,
which is what the constants below do: every number of either is exact in float32.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from orrery.model.quant.bits import join, split

DOUBLED = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
NIBBLES = range(0, 8, 4)


def half_scale(exponent: Tensor) -> Tensor:
    """uint8 -> float32 2^(exponent - 128), elementwise; the two smallest are below the normal range of float32."""
    e = exponent.to(torch.int32)
    bits = torch.where(e < 2, 0x00200000 << e.clamp_max(1), (e - 1) << 23)
    return bits.view(torch.float32)


def decode_mxfp4(blocks: Tensor, out: Tensor) -> None:
    """(N, 17) uint8 -> (N, 32)."""
    codes = split(blocks[:, 1:], NIBBLES, 4).flatten(-2)
    values = torch.tensor(DOUBLED, dtype=torch.float32, device=blocks.device)
    values = values.index_select(0, codes.to(torch.int32).flatten()).view(codes.shape)
    torch.mul(values, half_scale(blocks[:, :1]), out=out)


def encode_mxfp4(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 32) -> (N, 17) uint8; the importance does not matter.

    As in the specification the exponent is that of the largest magnitude, less 2 (the exponent of 6), and numbers are
    rounded to the nearest magnitude, from the middle between two to the smaller.
    """
    peak = x.abs().amax(-1, keepdim=True)
    log = (
        peak.double().log2().float().floor()
    )  # rounded to float32 first: 2^k (1 - 2^-24) counts as 2^k, as in ggml
    exponent = torch.where(peak > 0, log + 125, 0.0).clamp_(0, 254).to(torch.uint8)
    scale, magnitude = half_scale(exponent), x.abs()
    code = torch.zeros_like(x, dtype=torch.uint8)
    for low, high in itertools.pairwise(DOUBLED[:8]):
        code += magnitude > (low + high) / 2 * scale
    code += 8 * ((x < 0) & (code > 0)).to(torch.uint8)
    return torch.cat((exponent, join(code.unflatten(-1, (2, 16)), NIBBLES)), dim=-1)
