"""The block formats of GGUF by name: bytes to numbers and numbers to bytes.

    raw = quantize(weight, "Q4_K")          # (out, in) float -> (out, in / 256 * 144) uint8
    weight = dequantize(raw, "Q4_K")        # and back, float32

A row is cut into blocks, a block is a fixed number of bytes; rows are independent. Work goes on in pieces that fit the
processor's cache, so memory beyond the result is a few megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.gguf import BLOCK_TYPES
from orrery.model.quant import floats, iq4, k_affine, k_symmetric, legacy, mxfp4, ternary

PIECE = 1 << 18  # numbers worked on at once


@dataclass(frozen=True)
class Format:
    """One block format: `block` numbers in `size` bytes, and how to go from one to the other.

    decode(blocks (N, size) uint8, out (N, block) float32) writes into `out`;
    encode(x (N, block) float32, importance (N, block) or None) gives (N, size) uint8.
    """

    block: int
    size: int
    decode: Callable[[Tensor, Tensor], None]
    encode: Callable[[Tensor, Tensor | None], Tensor]

    @property
    def bits(self) -> float:
        """Bits per weight."""
        return 8 * self.size / self.block


_CODECS = {
    "F32": (floats.decode_f32, floats.encode_f32),
    "F16": (floats.decode_f16, floats.encode_f16),
    "BF16": (floats.decode_bf16, floats.encode_bf16),
    "Q8_0": (legacy.decode_q8_0, legacy.encode_q8_0),
    "Q4_0": (legacy.decode_q4_0, legacy.encode_q4_0),
    "Q4_1": (legacy.decode_q4_1, legacy.encode_q4_1),
    "Q5_0": (legacy.decode_q5_0, legacy.encode_q5_0),
    "Q5_1": (legacy.decode_q5_1, legacy.encode_q5_1),
    "Q2_K": (k_affine.decode_q2_k, k_affine.encode_q2_k),
    "Q3_K": (k_symmetric.decode_q3_k, k_symmetric.encode_q3_k),
    "Q4_K": (k_affine.decode_q4_k, k_affine.encode_q4_k),
    "Q5_K": (k_affine.decode_q5_k, k_affine.encode_q5_k),
    "Q6_K": (k_symmetric.decode_q6_k, k_symmetric.encode_q6_k),
    "IQ4_NL": (iq4.decode_iq4_nl, iq4.encode_iq4_nl),
    "IQ4_XS": (iq4.decode_iq4_xs, iq4.encode_iq4_xs),
    "TQ1_0": (ternary.decode_tq1_0, ternary.encode_tq1_0),
    "TQ2_0": (ternary.decode_tq2_0, ternary.encode_tq2_0),
    "MXFP4": (mxfp4.decode_mxfp4, mxfp4.encode_mxfp4),
}
FORMATS: dict[str, Format] = {
    kind: Format(BLOCK_TYPES[kind].block, BLOCK_TYPES[kind].bytes, decode, encode)
    for kind, (decode, encode) in _CODECS.items()
}
READABLE: tuple[str, ...] = tuple(FORMATS)
WRITABLE: tuple[str, ...] = tuple(FORMATS)


def block_format(kind: str) -> Format:
    """The format named `kind` (as GGUF names it, in capitals); raises OrreryError for one that is not built."""
    if kind not in FORMATS:
        raise OrreryError(
            f"block format '{kind}' is not built; there are {', '.join(FORMATS)}.{suggest(kind, FORMATS)}"
        )
    return FORMATS[kind]


def dequantize(raw: Tensor, kind: str) -> Tensor:
    """(..., bytes per row) uint8 -> (..., n) float32 in new memory, equal to the gguf package's bit for bit.

    Raises OrreryError for an unknown kind, another dtype, and rows that are no whole number of blocks.
    """
    form = block_format(kind)
    if raw.dtype != torch.uint8 or raw.ndim == 0 or raw.shape[-1] % form.size:
        raise OrreryError(
            f"{kind} stores {form.block} numbers in {form.size} bytes, but the tensor is {raw.dtype} of shape "
            f"{tuple(raw.shape)}: its last dimension must count bytes (uint8) and be a multiple of {form.size}"
        )
    n = raw.shape[-1] // form.size * form.block
    out = torch.empty(*raw.shape[:-1], n, dtype=torch.float32, device=raw.device)
    step = PIECE // form.block
    for blocks, numbers in zip(
        raw.reshape(-1, form.size).split(step), out.view(-1, form.block).split(step), strict=True
    ):
        form.decode(blocks, numbers)
    return out


@torch.no_grad()
def quantize(x: Tensor, kind: str, importance: Tensor | None = None) -> Tensor:
    """(..., n) float -> (..., bytes per row) uint8.

    F16, BF16, Q8_0, MXFP4, TQ1_0 and TQ2_0, and Q4_0 to Q5_1 without an importance, give the bytes of the gguf package.
    The others search for the scales of least weighted squared error (orrery.model.quant.search). `importance` (n,), not
    negative, is the weight of each column: the mean square of the activation that the column meets is the usual choice.

    Raises OrreryError for an unknown kind, n not a multiple of the block, NaN or infinite numbers, an importance of
    another shape or below 0, and numbers beyond the format's reach.
    """
    form = block_format(kind)
    if not x.is_floating_point() or x.ndim == 0 or x.shape[-1] % form.block:
        raise OrreryError(
            f"{kind} needs floating-point rows whose length is a multiple of {form.block}, but the tensor is {x.dtype} "
            f"of shape {tuple(x.shape)}: choose a format with smaller blocks (Q8_0: 32, F16: 1)"
        )
    if bad := x.numel() - int(x.isfinite().sum()):
        raise OrreryError(
            f"{bad} of {x.numel()} numbers are NaN or infinite and {kind} cannot hold them: mend the tensor first"
        )
    weights = None if importance is None else _weights(importance, x.shape[-1]).to(x.device)
    out = torch.empty(
        *x.shape[:-1], x.shape[-1] // form.block * form.size, dtype=torch.uint8, device=x.device
    )
    step, per_row = PIECE // form.block, x.shape[-1] // form.block
    blocks, packed = x.reshape(-1, form.block), out.view(-1, form.size)
    for start in range(0, len(blocks), step):
        piece = blocks[start : start + step].float()
        w = None
        if weights is not None:
            columns = torch.arange(start, start + len(piece), device=x.device) % per_row
            w = weights.view(per_row, form.block)[columns]
        packed[start : start + step] = form.encode(piece, w)
    return out


def _weights(importance: Tensor, n: int) -> Tensor:
    """(n,) float32, at most 1 and a little above 0, so that a block of unimportant columns still has a best scale."""
    good = importance.shape == (n,) and bool(importance.isfinite().all()) and bool((importance >= 0).all())
    if not good:
        raise OrreryError(
            f"the importance must be {n} finite numbers, none below 0, one for each column, but it is "
            f"{importance.dtype} of shape {tuple(importance.shape)} with values "
            f"{importance.min().item() if importance.numel() else 'none'} and up"
        )
    peak = importance.max().float()
    return (importance.float() / peak).clamp_min(1e-6) if peak > 0 else torch.ones(n)
