"""The header of a safetensors file, read with suspicion, and its tensors, read so that a changed file is an error.

    8 bytes n | n bytes JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {..}} | data

The tensors must cover the data exactly: no overlap (a small file that asks for much memory), no hole, nothing after the
last one (a file that is also another format). Tensors are read, not mapped: a file that another process cuts short while
it is mapped ends this process, one that is read is an error. Format: github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, decoded, parse_text, unique
from orrery.kit.untrusted import describe, open_regular

BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
"""Bits of one element, by dtype."""

MAX_HEADER = 24 << 20
MAX_TENSORS = 100_000
MAX_METADATA = 1 << 20
MAX_NAME = 1024
MAX_RANK = 8
MAX_DIMENSION = 1 << 48
METADATA = "__metadata__"
_KEYS = {"dtype", "shape", "data_offsets"}
_WHAT = "a safetensors file"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies: bytes [start, end) of the file. `shape` is as stored, row-major."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


def check_safetensors(path: str | Path) -> dict[str, TensorEntry]:
    """The tensors of a file, in the order of their bytes, after every rule of the format was found kept.

    Reads the header alone.

    Raises:
        OrreryError: names the file, the byte or tensor, and the rule.
    """
    with open_safetensors(path) as file:
        return file.tensors


@contextmanager
def open_safetensors(path: str | Path) -> Iterator[SafetensorsFile]:
    """Open, check, and close at the end of the block.

    Raises:
        OrreryError: as `check_safetensors`.
    """
    path = Path(path)
    with open_regular(path, _WHAT) as handle:
        size = os.fstat(handle.fileno()).st_size
        yield SafetensorsFile(path, handle, *_read_header(handle, size, str(path)))


class SafetensorsFile:
    """An open file whose header was checked. `tensors` maps names to entries, `metadata` holds the writer's notes."""

    def __init__(
        self, path: Path, handle: BinaryIO, tensors: dict[str, TensorEntry], metadata: dict[str, str]
    ) -> None:
        self.path, self.tensors, self.metadata = path, tensors, metadata
        self._handle = handle

    def raw(self, name: str) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor, (nbytes,) uint8, in memory of their own.

        Raises:
            OrreryError: the file was cut short since it was opened, or a BOOL is neither 0 nor 1.
        """
        entry = self.tensors[name]
        data = np.empty(entry.nbytes, dtype=np.uint8)
        view, done = memoryview(data), 0  # type: ignore[arg-type]
        while done < entry.nbytes:
            try:
                count = os.preadv(self._handle.fileno(), [view[done : done + (1 << 30)]], entry.start + done)
            except OSError as error:
                raise OrreryError(f"cannot read '{self.path}': {error.strerror}") from None
            if count == 0:
                raise OrreryError(
                    f"'{self.path}' was cut short while it was read: tensor '{name}' ends at byte {entry.end:,}, the file "
                    f"at byte {entry.start + done:,}; get it again"
                )
            done += count
        if entry.dtype == "BOOL" and entry.nbytes and int(data.max()) > 1:
            at = int(np.argmax(data > 1))
            raise OrreryError(
                f"'{self.path}', byte {entry.start + at:,}: tensor '{name}' is BOOL but holds {data[at]}, not 0 or 1"
            )
        return data


def check_safetensors_bytes(data: bytes, where: str) -> dict[str, TensorEntry]:
    """`check_safetensors` of a whole file in memory; `where` stands for its path in messages."""
    import io

    return _read_header(io.BytesIO(data), len(data), where)[0]


def _read_header(
    handle: BinaryIO | Any, size: int, where: str
) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    head = handle.read(512)
    if len(head) < 8:
        _damaged(where, 0, f"it has {len(head)} bytes, and the length of the header alone takes 8")
    length = int.from_bytes(head[:8], "little")
    if found := describe(head):
        raise OrreryError(
            f"'{where}' is not {_WHAT}: it holds {found}; orrery reads no other content under this name"
        )
    if length > size - 8:
        over = f", over the limit of {MAX_HEADER:,}" if length > MAX_HEADER else ""
        _damaged(
            where,
            0,
            f"the header is said to take {length:,} bytes{over} and runs past the end of the file ({size:,} bytes)",
        )
    if length > MAX_HEADER:
        _damaged(where, 0, f"the header takes {length:,} bytes, over the limit of {MAX_HEADER:,}")
    if length == 0:
        _damaged(where, 8, "the header is empty")
    if head[8:9] != b"{":
        _damaged(where, 8, f"the header must begin with '{{', not {head[8:9]!r}")
    handle.seek(8)
    return _parse(handle.read(length), 8 + length, size, where)


def _parse(header: bytes, base: int, size: int, where: str) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    if header.count(b'"data_offsets"') > MAX_TENSORS:
        _damaged(where, 8, f"more than {MAX_TENSORS:,} tensors")
    try:
        text = decoded(header, max_depth=4, max_values=12 * MAX_TENSORS)
        del header  # of the largest file allowed, the header alone takes as much as all that is kept of it
        entries = unique(parse_text(text, pairs=_compact))
    except JsonFault as error:
        raise OrreryError(
            f"'{where}' is damaged: its header is not as the format says ({error}); get it again"
        ) from None
    notes = entries.pop(METADATA, None)
    metadata = {} if notes is None else _metadata(notes, where)
    if len(entries) > MAX_TENSORS:
        _damaged(where, 8, f"{len(entries):,} tensors, over the limit of {MAX_TENSORS:,}")
    for name, fields in entries.items():  # in place: the fields of each are let go as its entry is made
        entries[name] = _entry(name, fields, base, size, where)
    # start + end orders any set of spans that tile the data, also spans of no bytes, and no other set can tile it
    ordered = {
        name: entries[name]
        for name in sorted(entries, key=lambda name: entries[name].start + entries[name].end)
    }
    _check_cover(ordered, base, size, where)
    return ordered, metadata


class _Pairs(list[tuple[str, Any]]):
    """The (key, value) pairs of a JSON object that is no tensor's entry, kept apart from JSON's lists."""


def _compact(pairs: list[tuple[str, Any]]) -> Any:
    """An object of the header as it is kept while the rest is read: a tensor's three fields as a tuple, so that a header
    of many tensors takes little memory, anything else as pairs."""
    if len(pairs) == 3:
        fields = dict(pairs)
        if fields.keys() == _KEYS:
            dtype, shape = fields["dtype"], fields["shape"]
            known = sys.intern(dtype) if type(dtype) is str else dtype
            offsets = fields["data_offsets"]
            return known, _tuple(shape), _tuple(offsets)
    return _Pairs(pairs)


def _tuple(value: Any) -> Any:
    return tuple(value) if type(value) is list else value


def _metadata(notes: Any, where: str) -> dict[str, str]:
    if not isinstance(notes, _Pairs) or not all(type(value) is str for _, value in notes):
        _damaged(where, 8, f"{METADATA} must map strings to strings")
    if sum(len(key) + len(value) for key, value in notes) > MAX_METADATA:
        _damaged(where, 8, f"{METADATA} holds more than {MAX_METADATA:,} characters")
    with _named(where, METADATA):
        return unique(notes)


def _entry(name: str, fields: Any, base: int, size: int, where: str) -> TensorEntry:
    if len(name) > MAX_NAME:
        _damaged(where, 8, f"a tensor's name has {len(name):,} characters, over the limit of {MAX_NAME}")
    if not name.isprintable():
        _damaged(where, 8, f"the tensor name {name[:80]!r} holds control characters")
    if type(fields) is not tuple:
        _refuse_fields(name, fields, where)
    dtype, shape, offsets = fields
    if type(dtype) is not str or dtype not in BITS:
        _refuse(where, name, f"unknown dtype {str(dtype)[:40]!r}")
    if type(shape) is not tuple or len(shape) > MAX_RANK:
        rank = f"rank {len(shape):,}" if isinstance(shape, tuple) else str(shape)[:40]
        _refuse(where, name, f"its shape must be a list of at most {MAX_RANK} dimensions, not {rank}")
    for dimension in shape:
        if type(dimension) is not int or not 0 <= dimension <= MAX_DIMENSION:
            _refuse(where, name, f"dimension {str(dimension)[:40]} is not a whole number from 0 to 2^48")
    if (
        type(offsets) is not tuple
        or len(offsets) != 2
        or type(offsets[0]) is not int
        or type(offsets[1]) is not int
    ):
        _refuse(where, name, "data_offsets must be two whole numbers")
    begin, end = offsets
    if not 0 <= begin <= end <= size - base:
        _refuse(
            where,
            name,
            f"its bytes {begin} to {end} do not lie in the {size - base:,} bytes of data, which may be cut short",
        )
    count = math.prod(shape)
    if (bits := count * BITS[dtype]) != 8 * (end - begin):
        if bits % 8:
            _refuse(where, name, f"{count:,} elements of {dtype} are no whole number of bytes")
        _refuse(
            where,
            name,
            f"shape {list(shape)} of {dtype} takes {bits // 8:,} bytes, but data_offsets give it {end - begin:,}",
        )
    return TensorEntry(dtype, shape, base + begin, base + end)


def _refuse_fields(name: str, fields: Any, where: str) -> NoReturn:
    if not isinstance(fields, _Pairs):
        _refuse(where, name, "its entry must be an object")
    with _named(where, name):
        odd = sorted(unique(fields).keys() ^ _KEYS)
    listed = ", ".join(repr(key[:40]) for key in odd[:3])
    _refuse(
        where, name, f"its entry must hold dtype, shape and data_offsets alone ({listed} missing or unknown)"
    )


def _refuse(where: str, name: str, rule: str) -> NoReturn:
    raise OrreryError(f"'{where}' is damaged: tensor {name!r}: {rule}; get it again")


def _check_cover(ordered: dict[str, TensorEntry], base: int, size: int, where: str) -> None:
    at, before = base, ""
    for name, entry in ordered.items():
        if entry.start < at:
            _damaged(where, entry.start, f"tensors {before!r} and {name!r} overlap")
        if entry.start > at:
            _damaged(where, at, f"a hole of {entry.start - at:,} bytes before tensor {name!r}")
        at, before = entry.end, name
    if at != size:
        _damaged(where, at, f"{size - at:,} bytes after the last tensor")


@contextlib.contextmanager
def _named(where: str, key: str) -> Iterator[None]:
    try:
        yield
    except JsonFault as error:
        raise OrreryError(f"'{where}' is damaged: {key!r}: {error}; get it again") from None


def _damaged(where: str, at: int, rule: str) -> NoReturn:
    raise OrreryError(f"'{where}' is damaged or not {_WHAT}: byte {at:,}: {rule}; get it again")
