"""Rows of blocks in the order in which a kernel reads them, and back.

A file keeps a row's blocks together. A kernel works on R rows at once, one per lane of a vector register, so packed weights
are panels of R rows. Inside a panel, for every 32 columns, the codes come as whole registers of R x Q bytes ("quads": Q
neighbouring columns of R rows), n = 32 / Q of them. Codes of b bits are cut into planes of 4, 2 and 1 bits, low bits first (6 =
4 + 2, 3 = 2 + 1), and a plane keeps 8 / width quads in one register: register v holds quads v, v + n w / 8, v + 2 n w / 8 ... from
the lowest bits up, so taking one out is a shift and a mask for all R rows. Scales stand in arrays of their own, R at a time.

    codes   (P, K / 32, n * bits / 8, R * Q) uint8       d, m   (P, S, R) int16       sub, submin   (P, G, R) int8

P = N / R panels, the last one filled up with zeros. About the bytes of the file (the 4- and 6-bit scales of k-quants take 8), and a bijection: `blocks`
gives the very bytes back, so neither the raw blocks nor a dequantised copy need stay in memory.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.model.lowbit.formats import join, split
from orrery.model.lowbit.kinds import KINDS, Fields, Kind

HUGE, STRETCH = 2**21, 2**24
CHUNK = 2**21
"""Weights packed at a time: temporary memory stays within some ten megabytes and a second-level cache."""


@dataclass
class Packed:
    """A matrix of N rows and K columns in panels of `panel` rows and quads of `quad` columns.

    `bits` is how wide codes are stored: the kind's own width, or 8 for a kernel that cannot cut bytes fast. `original` is kept
    only where the rows came in a format that is packed as another.
    """

    kind: str
    rows: int
    columns: int
    panel: int
    quad: int
    bits: int
    codes: Tensor
    d: Tensor
    m: Tensor | None
    sub: Tensor | None
    submin: Tensor | None
    original: Tensor | None = None

    @property
    def layout(self) -> Kind:
        return KINDS[self.kind]

    @property
    def nbytes(self) -> int:
        """Memory taken."""
        return sum(x.nbytes for x in (self.codes, self.d, self.m, self.sub, self.submin) if x is not None)

    @property
    def finite(self) -> bool:
        """No scale and no minimum is NaN or infinite; codes cannot be."""
        kind = torch.bfloat16 if self.layout.scale == "bfloat" else torch.float16
        # A NaN is the smallest and the largest; no copy is made of the scales.
        ends = [x.view(kind).aminmax() for x in (self.d, self.m) if x is not None]
        return all(bool(end.isfinite()) for pair in ends for end in pair)

    def fields(self, first: int, last: int) -> Fields:
        """The fields of the rows of panels first..last - 1, as `split` makes them (filling rows included)."""
        part = slice(first, last)
        codes = _from_registers(self.codes[part], self.bits, self.panel, self.quad)

        def rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[part].transpose(1, 2).flatten(0, 1)

        d = rows(self.d)
        assert d is not None
        return Fields(codes, d, rows(self.m), rows(self.sub), rows(self.submin))

    def select(self, ids: Tensor) -> Fields:
        """The fields of single rows, in any order."""
        panels, lanes = ids // self.panel, ids % self.panel
        regs = self.codes[panels].unflatten(-1, (self.panel, self.quad))  # (T, B, registers, R, Q)
        codes = _from_registers(regs[torch.arange(len(ids)), :, :, lanes], self.bits, 1, self.quad)

        def rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[panels, :, lanes]

        d = rows(self.d)
        assert d is not None
        return Fields(codes, d, rows(self.m), rows(self.sub), rows(self.submin))

    def pieces(self) -> Iterator[tuple[slice, Fields]]:
        """The whole matrix, some panels at a time: (which rows, their fields without the filling)."""
        step = max(1, CHUNK // (self.columns * self.panel))
        for first in range(0, self.codes.shape[0], step):
            low, high = first * self.panel, min((first + step) * self.panel, self.rows)
            yield slice(low, high), self.fields(first, first + step).each(lambda x: x[: high - low])  # noqa: B023

    def blocks(self) -> Tensor:
        """(N, bytes of a row) uint8: the file's bytes."""
        if self.original is not None:
            return self.original
        k = self.layout
        out = torch.empty(self.rows, self.columns // k.block * k.size, dtype=torch.uint8)
        for part, fields in self.pieces():
            out[part] = join(fields, self.kind)
        return out


def pack(raw: Tensor, kind: str, *, panel: int, quad: int, bits: int | None = None) -> Packed:
    """(N, bytes of a row) uint8 as in the file -> the same numbers in the order described above."""
    k = KINDS[kind]
    n, columns = raw.shape[0], raw.shape[1] // k.size * k.block
    panels = -(-n // panel)
    bits = bits or k.bits
    regs = 32 // quad * bits // 8

    def empty(width: int, dtype: torch.dtype, wanted: bool) -> Tensor | None:
        return _room((panels, width, panel), dtype) if wanted else None

    sub = k.scale == "super"
    packed = Packed(
        kind, n, columns, panel, quad, bits,
        _room((panels, columns // 32, regs, panel * quad), torch.uint8),
        _room((panels, columns // k.span, panel), torch.int16),
        empty(columns // k.span, torch.int16, k.minimum),
        empty(columns // k.group, torch.int8, sub),
        empty(columns // k.group, torch.int8, sub and k.minimum),
    )  # fmt: skip
    step = max(1, CHUNK // (columns * panel))
    for first in range(0, panels, step):
        part = slice(first, min(first + step, panels))
        fields = split(raw[first * panel : (first + step) * panel], kind)
        packed.codes[part] = _registers(_fill(fields.codes, panel), bits, panel, quad)
        for name in ("d", "m", "sub", "submin"):
            if (value := getattr(fields, name)) is not None:
                rows = _fill(value, panel).unflatten(0, (-1, panel))
                getattr(packed, name)[part] = rows.transpose(1, 2)
    return packed


_shared = torch.empty(0, dtype=torch.uint8)
"""What is left of the last stretch of memory that small matrices share."""
_one_at_a_time = threading.Lock()


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory for a part of a matrix, in pages of 2 MiB where Linux gives them: all of it is read for every token, and with small pages
    the processor looks an address up every 4 KiB. Small parts share stretches of memory."""
    global _shared
    size = math.prod(shape) * dtype.itemsize
    if size >= STRETCH:
        return _in_large_pages(size).view(dtype).view(shape)
    taken = -(-size // 64) * 64
    with _one_at_a_time:
        if _shared.nbytes < taken:
            _shared = _in_large_pages(STRETCH)
        mine, _shared = _shared[:size], _shared[taken:]
    return mine.view(dtype).view(shape)


def _in_large_pages(size: int) -> Tensor:
    made = torch.empty(size, dtype=torch.uint8)
    if sys.platform == "linux":
        start = -(-made.data_ptr() // HUGE) * HUGE
        length = (made.data_ptr() + size - start) // HUGE * HUGE
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(length), 14
        )  # MADV_HUGEPAGE: a wish
    return made


def _fill(x: Tensor, panel: int) -> Tensor:
    """Rows of zeros at the end, up to a whole panel."""
    short = -x.shape[0] % panel
    return torch.cat([x, x.new_zeros(short, x.shape[1])]) if short else x


def _widths(bits: int) -> Iterator[tuple[int, int]]:
    """(width, place of its lowest bit) of the planes of a code."""
    place = 0
    for width in (8, 4, 2, 1):
        if bits & width:
            yield width, place
            place += width


def _registers(codes: Tensor, bits: int, panel: int, quad: int) -> Tensor:
    """(N, K) codes, N a multiple of `panel` -> (P, K / 32, registers, panel * quad)."""
    n = 32 // quad
    if quad == 4:  # four codes move as one number
        codes = codes.clone() if codes.storage_offset() % 4 else codes.contiguous()
        words = codes.contiguous().view(torch.int32).view(-1, panel, codes.shape[1] // 32, n)
        quads = words.permute(0, 2, 3, 1).contiguous()[..., None].view(torch.uint8)
    else:
        quads = codes.view(-1, panel, codes.shape[1] // 32, n, quad).permute(0, 2, 3, 1, 4)
    if bits == 8:
        return quads.flatten(3)
    planes = []
    for width, place in _widths(bits):
        mask = (1 << width) - 1
        cut = quads.unflatten(2, (8 // width, -1))  # (P, B, 8 / width, n width / 8, panel, quad)
        plane = (cut[:, :, 0] >> place) & mask
        for i in range(1, 8 // width):
            plane |= ((cut[:, :, i] >> place) & mask) << (i * width)
        planes.append(plane.flatten(3))
    return torch.cat(planes, 2)


def _from_registers(regs: Tensor, bits: int, panel: int, quad: int) -> Tensor:
    """The inverse of `_registers`."""
    n, at = 32 // quad, 0
    quads = torch.zeros(*regs.shape[:2], n, regs.shape[3], dtype=torch.uint8)
    for width, place in _widths(bits):
        mask, count = (1 << width) - 1, n * width // 8
        plane = regs[:, :, at : at + count]
        for i in range(8 // width):
            quads[:, :, i * count : (i + 1) * count] |= ((plane >> (i * width)) & mask) << place
        at += count
    return quads.unflatten(3, (panel, quad)).permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)
