"""The same products in plain torch: the definition, for machines without a compiler or numba. Correct, slow.

Activations become whole numbers exactly as in kernel.cpp. A block's sum of products stays below 2^24, so float32 holds it
exactly whatever the order, and blocks are added first to last: here too a row's result does not depend on the batch. The
one difference from the kernel is that a product and its addition are rounded separately.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.lowbit.kinds import Fields, Kind
from orrery.model.lowbit.matrix import PackedMatrix
from orrery.model.lowbit.pack import pack


def quantize_activations(x: Tensor) -> tuple[Tensor, Tensor]:
    """(T, K) float32 -> whole numbers in -127..127 as float32 (T, K / 32, 32), and scales (T, K / 32).

    x = scale * q: the largest magnitude of 32 becomes 127. A block with an infinity or a NaN gets the scale NaN; one without
    anything above 1e-30 becomes zeros.
    """
    blocks = x.unflatten(-1, (-1, 32))
    most = blocks.abs().amax(-1)
    finite, some = most.isfinite(), most > 1e-30
    fine = finite & some
    inverse = torch.where(fine, 127.0 / most, 0.0)
    scale = torch.where(fine, most / 127.0, torch.where(finite, 0.0, torch.nan))
    q = torch.where(fine[..., None], (blocks * inverse[..., None]).round(), 0.0)
    return q, scale


def lost(x: Tensor) -> Tensor:
    """(T, K) -> x - scale * q: what the rounding of activations lost, to be rounded again as a second term."""
    q, scale = quantize_activations(x)
    return torch.where(
        scale.isfinite()[..., None],
        x.unflatten(-1, (-1, 32)) - q * scale[..., None],
        x.unflatten(-1, (-1, 32)),
    ).flatten(1)


def scales(fields: Fields, k: Kind) -> tuple[Tensor, Tensor | None]:
    """Float32 scale and minimum of every group: (N, G) each; a kind without minima gives None."""
    d = _floats(fields.d, k)
    if k.scale != "super":
        return d, None if fields.m is None else _floats(fields.m, k)
    assert fields.sub is not None
    groups = 256 // k.group
    scale = d.repeat_interleave(groups, -1) * fields.sub
    if fields.m is None or fields.submin is None:
        return scale, None
    return scale, -(_floats(fields.m, k).repeat_interleave(groups, -1) * fields.submin)


def values(fields: Fields, k: Kind) -> Tensor:
    """What the codes stand for, (N, K) float32 whole numbers."""
    if k.table is not None:
        return torch.tensor(k.table, dtype=torch.float32)[fields.codes.int()]
    codes = fields.codes.view(torch.int8) if k.signed else fields.codes
    return codes.float() - k.offset


def dequantize(fields: Fields, k: Kind) -> Tensor:
    """(N, K) float32: what the format says, rounded as its reference does."""
    scale, minimum = scales(fields, k)
    out = values(fields, k).unflatten(-1, (-1, k.group)) * scale[..., None]
    return (out if minimum is None else out + minimum[..., None]).flatten(-2)


def _floats(bits: Tensor, k: Kind) -> Tensor:
    return (
        bits.clone(memory_format=torch.contiguous_format)
        .view(torch.bfloat16 if k.scale == "bfloat" else torch.float16)
        .float()
    )


class TorchMatrix(PackedMatrix):
    """A packed matrix (here: rows in their own order) multiplied by torch."""

    def __init__(self, raw: Tensor, kind: str) -> None:
        super().__init__(pack(raw, kind, panel=1, quad=4))

    def multiply(self, x: Tensor, terms: int = 1) -> Tensor:
        if terms == 2:
            return self.multiply(x) + self.multiply(lost(x))
        q, s = quantize_activations(x)
        k = self.packed.layout
        q = q.unflatten(-1, (-1, k.group)).flatten(1, 2).transpose(0, 1)  # (G, T, group)
        s = s.repeat_interleave(32 // k.group, -1)  # (T, G)
        out = x.new_zeros(x.shape[0], self.packed.rows)
        for part, fields in self.packed.pieces():
            scale, minimum = scales(fields, k)
            w = values(fields, k).unflatten(-1, (-1, k.group)).permute(1, 2, 0)  # (G, group, n)
            y = out[:, part]
            mass = q.sum(-1).T * s
            for g in range(w.shape[0]):
                y.addcmul_(q[g] @ w[g], s[:, g, None] * scale[:, g])
                if minimum is not None:
                    y.addcmul_(mass[:, g, None], minimum[:, g])
        return out

    def rows(self, ids: Tensor) -> Tensor:
        return dequantize(self.packed.select(ids), self.packed.layout)
