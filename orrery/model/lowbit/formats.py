"""Rows of a GGUF file taken apart into fields, and put together again, bit for bit.

Block formats as ggml defines them (k-quants, IQ4, ternary) and OCP Microscaling 1.0 (MXFP4). Each format is a pair of
functions: blocks (N, B, size) uint8 -> `Fields`, and back. N rows of B blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from orrery.model.lowbit.kinds import KINDS, Fields

Take = Callable[[Tensor], Fields]
Give = Callable[[Fields], Tensor]


def split(raw: Tensor, kind: str) -> Fields:
    """(N, bytes of a row) uint8 as in the file -> its fields."""
    blocks = raw.unflatten(-1, (-1, KINDS[kind].size))
    return FORMATS[kind][0](blocks).each(lambda x: x.reshape(raw.shape[0], -1))


def join(fields: Fields, kind: str) -> Tensor:
    """The inverse of `split`: fields -> (N, bytes of a row) uint8."""
    n, count = fields.codes.shape[0], fields.codes.shape[1] // KINDS[kind].block
    return FORMATS[kind][1](fields.each(lambda x: x.reshape(n, count, -1))).flatten(1)


def _plain(x: Tensor) -> Tensor:
    """A copy whose strides are those of its shape; `contiguous` leaves odd ones on axes of length 1, where `view` objects."""
    return x.clone(memory_format=torch.contiguous_format)


def _half(x: Tensor) -> Tensor:
    """(N, B, 2) bytes -> (N, B, 1) int16."""
    return _plain(x).view(torch.int16)


def _bytes(x: Tensor | None) -> Tensor:
    assert x is not None
    return _plain(x).view(torch.uint8)


def _spread(x: Tensor, width: int) -> Tensor:
    """(..., n) bytes -> (..., 8 / width, n): the fields of `width` bits of every byte, lowest first."""
    mask = (1 << width) - 1
    return torch.stack([(x >> shift) & mask for shift in range(0, 8, width)], -2)


def _gather(x: Tensor, width: int) -> Tensor:
    """The inverse of `_spread`; bits above `width` are ignored."""
    mask = (1 << width) - 1
    out = x[..., 0, :] & mask
    for i in range(1, 8 // width):
        out |= (x[..., i, :] & mask) << (i * width)
    return out


def _planes(x: Tensor, width: int, run: int) -> Tensor:
    """(N, B, n) bytes -> (N, B, 8 / width * n): in every `run` bytes first all the lowest fields, then the next ..."""
    return _spread(x.unflatten(-1, (-1, run)), width).flatten(2)


def _from_planes(codes: Tensor, width: int, run: int) -> Tensor:
    return _gather(codes.unflatten(-1, (-1, 8 // width, run)), width).flatten(2)


def _bits(x: Tensor) -> Tensor:
    """(N, B, n) bytes -> (N, B, 8 n) their bits, lowest first."""
    return _spread(x, 1).transpose(-1, -2).flatten(-2)


def _from_bits(bits: Tensor) -> Tensor:
    return _gather(bits.unflatten(-1, (-1, 8)).transpose(-1, -2), 1)


def _simple(*, minimum: bool = False, fifth: bool = False) -> tuple[Take, Give]:
    """Blocks of 32: scale, perhaps minimum, perhaps 32 fifth bits, then nibbles (weights 0..15 low, 16..31 high)."""
    head = 4 if minimum else 2
    body = head + 4 if fifth else head

    def take(x: Tensor) -> Fields:
        codes = _planes(x[..., body:], 4, 16)
        if fifth:
            codes |= _bits(x[..., head:body]) << 4
        return Fields(codes, _half(x[..., :2]), _half(x[..., 2:4]) if minimum else None)

    def give(f: Fields) -> Tensor:
        parts = [
            _bytes(f.d),
            *([_bytes(f.m)] if minimum else []),
            *([_from_bits(f.codes >> 4)] if fifth else []),
        ]
        return torch.cat([*parts, _from_planes(f.codes, 4, 16)], -1)

    return take, give


def _take_q8_0(x: Tensor) -> Fields:
    return Fields(x[..., 2:], _half(x[..., :2]))


def _give_q8_0(f: Fields) -> Tensor:
    return torch.cat([_bytes(f.d), f.codes], -1)


def _take_mxfp4(x: Tensor) -> Fields:
    """The scale of the doubled table, 2^(e - 128), as a bfloat: exponent e - 1, or one of the two subnormals."""
    e = x[..., :1].to(torch.int16)
    return Fields(_planes(x[..., 1:], 4, 16), torch.where(e < 2, 32 << e, (e - 1) << 7))


def _give_mxfp4(f: Fields) -> Tensor:
    e = torch.where(f.d < 128, f.d >> 6, (f.d >> 7) + 1)
    return torch.cat([e.to(torch.uint8), _from_planes(f.codes, 4, 16)], -1)


def _take_tq2_0(x: Tensor) -> Fields:
    return Fields(_planes(x[..., :64], 2, 32), _half(x[..., 64:]).expand(-1, -1, 8))


def _give_tq2_0(f: Fields) -> Tensor:
    return torch.cat([_from_planes(f.codes, 2, 32), _bytes(f.d[..., :1])], -1)


def tq2_from_tq1(raw: Tensor) -> Tensor:
    """Rows of TQ1_0 (five ternary digits in a byte, as a fraction of 256) as rows of TQ2_0 with the same weights."""
    x = raw.unflatten(-1, (-1, 54))
    parts = []
    for first, last, digits in ((0, 32, 5), (32, 48, 5), (48, 52, 4)):
        powers = torch.tensor([3**i for i in range(digits)], dtype=torch.uint8)
        turned = x[..., None, first:last] * powers[:, None]  # modulo 256: drops the digits before
        parts.append(((turned.short() * 3) >> 8).to(torch.uint8).flatten(-2))
    return _give_tq2_0(Fields(torch.cat(parts, -1), _half(x[..., 52:]))).flatten(1)


def _take_q2_k(x: Tensor) -> Fields:
    pair = x[..., :16]
    return Fields(
        _planes(x[..., 16:80], 2, 32), _half(x[..., 80:82]), _half(x[..., 82:]),
        (pair & 15).view(torch.int8), (pair >> 4).view(torch.int8),
    )  # fmt: skip


def _give_q2_k(f: Fields) -> Tensor:
    pair = _bytes(f.sub) | _bytes(f.submin) << 4
    return torch.cat([pair, _from_planes(f.codes, 2, 32), _bytes(f.d), _bytes(f.m)], -1)


def _take_q3_k(x: Tensor) -> Fields:
    """Codes: two bits, and a third where the mask has one. Scales: 4 low bits in 8 bytes, 2 high ones in 4, less 32."""
    codes = _planes(x[..., 32:96], 2, 32) | _spread(x[..., :32], 1).flatten(-2) << 2
    sub = _planes(x[..., 96:104], 4, 8) | _planes(x[..., 104:108], 2, 4) << 4
    return Fields(codes, _half(x[..., 108:]), sub=sub.view(torch.int8) - 32)


def _give_q3_k(f: Fields) -> Tensor:
    assert f.sub is not None
    sub = _bytes(f.sub + 32)
    mask = _gather((f.codes >> 2).unflatten(-1, (8, 32)), 1)
    scales = [_from_planes(sub, 4, 8), _from_planes(sub >> 4, 2, 4)]
    return torch.cat([mask, _from_planes(f.codes, 2, 32), *scales, _bytes(f.d)], -1)


def _take_q45_k(x: Tensor, *, fifth: bool) -> Fields:
    """Twelve bytes hold eight scales and eight minima of 6 bits: four of each whole, their top bits lent to the others."""
    a, b, c = x[..., 4:16].unflatten(-1, (3, 4)).unbind(-2)
    sub = torch.cat([a & 63, (c & 15) | (a >> 6) << 4], -1)
    submin = torch.cat([b & 63, (c >> 4) | (b >> 6) << 4], -1)
    codes = _planes(x[..., 48 if fifth else 16 :], 4, 32)
    if fifth:
        codes |= _spread(x[..., 16:48], 1).flatten(-2) << 4
    return Fields(codes, _half(x[..., :2]), _half(x[..., 2:4]), sub.view(torch.int8), submin.view(torch.int8))


def _give_q45_k(f: Fields, *, fifth: bool) -> Tensor:
    (a, a2), (b, b2) = _bytes(f.sub).chunk(2, -1), _bytes(f.submin).chunk(2, -1)
    scales = [a | (a2 >> 4) << 6, b | (b2 >> 4) << 6, (a2 & 15) | b2 << 4]
    top = [_gather((f.codes >> 4).unflatten(-1, (8, 32)), 1)] if fifth else []
    return torch.cat([_bytes(f.d), _bytes(f.m), *scales, *top, _from_planes(f.codes, 4, 32)], -1)


def _take_q6_k(x: Tensor) -> Fields:
    codes = _planes(x[..., :128], 4, 64) | _planes(x[..., 128:192], 2, 32) << 4
    return Fields(codes, _half(x[..., 208:]), sub=x[..., 192:208].view(torch.int8))


def _give_q6_k(f: Fields) -> Tensor:
    return torch.cat(
        [_from_planes(f.codes, 4, 64), _from_planes(f.codes >> 4, 2, 32), _bytes(f.sub), _bytes(f.d)], -1
    )


def _take_iq4_xs(x: Tensor) -> Fields:
    """Scales of 6 bits, less 32: two high bits of each in two bytes, then four low bits of each in four."""
    low = _spread(x[..., 4:8], 4).transpose(-1, -2).flatten(-2)
    high = _spread(x[..., 2:4], 2).transpose(-1, -2).flatten(-2)
    sub = (low | high << 4).view(torch.int8) - 32
    return Fields(_planes(x[..., 8:], 4, 16), _half(x[..., :2]), sub=sub)


def _give_iq4_xs(f: Fields) -> Tensor:
    assert f.sub is not None
    sub = _bytes(f.sub + 32)
    high = _gather((sub >> 4).unflatten(-1, (2, 4)).transpose(-1, -2), 2)
    low = _gather(sub.unflatten(-1, (4, 2)).transpose(-1, -2), 4)
    return torch.cat([_bytes(f.d), high, low, _from_planes(f.codes, 4, 16)], -1)


FORMATS: dict[str, tuple[Take, Give]] = {
    "Q8_0": (_take_q8_0, _give_q8_0),
    "Q4_0": _simple(),
    "Q4_1": _simple(minimum=True),
    "Q5_0": _simple(fifth=True),
    "Q5_1": _simple(minimum=True, fifth=True),
    "Q2_K": (_take_q2_k, _give_q2_k),
    "Q3_K": (_take_q3_k, _give_q3_k),
    "Q4_K": (lambda x: _take_q45_k(x, fifth=False), lambda f: _give_q45_k(f, fifth=False)),
    "Q5_K": (lambda x: _take_q45_k(x, fifth=True), lambda f: _give_q45_k(f, fifth=True)),
    "Q6_K": (_take_q6_k, _give_q6_k),
    "IQ4_NL": _simple(),
    "IQ4_XS": (_take_iq4_xs, _give_iq4_xs),
    "MXFP4": (_take_mxfp4, _give_mxfp4),
    "TQ2_0": (_take_tq2_0, _give_tq2_0),
}
