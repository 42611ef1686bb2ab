"""gpt-oss's experts as published: 4-bit floats in blocks of 32 with one scale, in two tensors (OCP Microscaling 1.0).

    <name>_blocks (E, out, in / 32, 16) uint8: two 4-bit floats a byte, neighbours, the first in the low half
    <name>_scales (E, out, in / 32) uint8: powers of two

GGUF's MXFP4, which our layers work on, has the scale before its block and puts number j beside number j + 16.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

BLOCKS, SCALES = "_blocks", "_scales"


def quantised_names(names: Iterable[str]) -> set[str]:
    """The names of tensors that are there as blocks and scales."""
    names = set(names)
    found = {name.removesuffix(BLOCKS) for name in names if name.endswith(BLOCKS)}
    return {name for name in found if name + SCALES in names}


def stored_shapes(name: str, dense: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of blocks and scales for a weight (E, in, out)."""
    experts, width, out = dense
    return {name + BLOCKS: (experts, out, width // 32, 16), name + SCALES: (experts, out, width // 32)}


def to_rows(blocks: Tensor, scales: Tensor, *, gated: bool) -> Tensor:
    """Blocks and scales -> rows of GGUF's MXFP4, (E, out, bytes); gated: rows of gates and factors, in turn there, are
    all gates before all factors here."""
    numbers = torch.stack((blocks & 15, blocks >> 4), -1).flatten(-2)  # (E, out, in / 32, 32)
    packed = numbers[..., :16] | (numbers[..., 16:] << 4)
    rows = torch.cat((scales[..., None], packed), -1).flatten(-2)
    return torch.cat((rows[:, ::2], rows[:, 1::2]), 1) if gated else rows


def from_rows(rows: Tensor, *, gated: bool) -> tuple[Tensor, Tensor]:
    """The inverse of `to_rows`: blocks and scales."""
    if gated:
        rows = torch.stack(rows.chunk(2, 1), 2).flatten(1, 2)
    parts = rows.unflatten(-1, (-1, 17))
    packed = parts[..., 1:]
    numbers = torch.cat((packed & 15, packed >> 4), -1)
    blocks = numbers[..., ::2] | (numbers[..., 1::2] << 4)
    return blocks.contiguous(), parts[..., 0].contiguous()
