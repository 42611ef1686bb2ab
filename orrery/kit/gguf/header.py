"""What stands before the data of a GGUF file: the metadata and the directory of tensors, read and checked.

Limits are far above any model in use and low enough that the worst file costs a second and some tens of MiB.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.gguf.blocks import BY_ID, RETIRED
from orrery.kit.gguf.values import DAMAGED, MAX_KEY_BYTES, MAX_NAME_BYTES, Cursor, shown

MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_RANK = 4
MAX_ALIGNMENT = 1 << 16  # a page of the largest kind in common use
DEFAULT_ALIGNMENT = 32

_SMALLEST_KEY = 8 + 1 + 4 + 1  # length, one letter, type, one byte
_SMALLEST_TENSOR = 8 + 1 + 4 + 4 + 8  # length, one letter, rank, type, offset


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's place in a file.

    `shape` is in torch's order (a matrix is (out, in)); `offset` is absolute, in bytes; `file` counts the files of a
    split model from 0.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    nbytes: int
    offset: int
    file: int = 0


@dataclass
class Header:
    """What one file says before its data. `kinds` keeps the exact type of every value: `uint32`, `array[string]` ..."""

    version: int
    alignment: int = DEFAULT_ALIGNMENT
    metadata: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, GgufTensor] = field(default_factory=dict)


def read_header(path: Path, data: mmap.mmap, *, max_array_depth: int) -> Header:
    """Read and check all that stands before the data.

    Raises:
        OrreryError: any rule of the format is broken.
    """
    cursor = Cursor(path, data, max_array_depth)
    header = Header(_version(cursor))
    n_tensors, n_keys = cursor.u64("the number of tensors"), cursor.u64("the number of keys")
    for at, count, what, smallest, most in (
        (8, n_tensors, "tensors", _SMALLEST_TENSOR, MAX_TENSORS),
        (16, n_keys, "keys", _SMALLEST_KEY, MAX_KEYS),
    ):
        if count * smallest > cursor.end - cursor.at or count > most:
            raise cursor.fault(
                f"{count} {what} cannot fit in the file, or are over the limit of {most}", at=at
            )
    for _ in range(n_keys):
        start, key = cursor.at, cursor.name("a key", MAX_KEY_BYTES)
        if key in header.metadata:
            raise cursor.fault("the key appears twice", at=start, key=f"key {shown(key)}")
        value, kind = cursor.value(cursor.u32(f"the type of key {shown(key)}"), f"key {shown(key)}")
        if key == "general.alignment" and not (kind == "uint32" and is_alignment(value)):
            raise cursor.fault(
                f"the alignment is {value if kind == 'uint32' else kind}, not a uint32 that is a power of two up to {MAX_ALIGNMENT}",
                at=start,
                key=f"key {shown(key)}",
            )
        header.metadata[key], header.kinds[key] = value, kind
    header.alignment = header.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    entries = [_entry(cursor, header.alignment) for _ in range(n_tensors)]
    _place(cursor, header, entries)
    return header


def is_alignment(value: int) -> bool:
    """A power of two up to the limit."""
    return 0 < value <= MAX_ALIGNMENT and value & (value - 1) == 0


def _version(cursor: Cursor) -> int:
    start = cursor.data[:64]
    if start[:4] != b"GGUF":
        if start.startswith(b"version https://git-lfs"):
            raise cursor.fault(
                "this is a Git LFS pointer, not the file it stands for", fix="run `git lfs pull`"
            )
        raise cursor.fault(
            f"the magic is {start[:4]!r}, not b'GGUF'", fix="name a .gguf file, or convert this one to GGUF"
        )
    cursor.need(4, "the magic")
    version = cursor.u32("the version")
    if version in (2, 3):
        return version
    if version & 0xFFFF == 0 and version:
        raise cursor.fault(
            "the file is in big-endian byte order",
            at=4,
            fix="make a little-endian file of it with gguf-convert-endian",
        )
    raise cursor.fault(
        f"version {version} is not 2 or 3",
        at=4,
        fix="convert the model again with a current llama.cpp or orrery",
    )


def _entry(cursor: Cursor, alignment: int) -> tuple[int, GgufTensor]:
    """One line of the directory; its offset is still relative to the data. Returns (where it stands, it)."""
    start = cursor.at
    name = cursor.name("the name of a tensor", MAX_NAME_BYTES)
    tensor = f"tensor {shown(name)}"

    def fault(rule: str, fix: str = DAMAGED) -> OrreryError:
        return cursor.fault(rule, at=start, key=tensor, fix=fix)

    rank = cursor.u32(f"the rank of {tensor}")
    if rank > MAX_RANK:
        raise fault(f"rank {rank} is over {MAX_RANK}")
    dims = [cursor.u64(f"the dimensions of {tensor}") for _ in range(rank)]
    type_id, offset = cursor.u32(f"the type of {tensor}"), cursor.u64(f"the offset of {tensor}")
    if type_id in RETIRED:
        raise fault(
            f"type {type_id} ({RETIRED[type_id]}) is no longer stored in files",
            fix="quantise the model again",
        )
    if type_id not in BY_ID:
        raise fault(
            f"type {type_id} is unknown", fix="if the type is newer than this version of orrery, update it"
        )
    block = BY_ID[type_id]
    if any(not 0 < size < 1 << 63 for size in dims):
        raise fault(f"dimensions {dims} have one that is zero or over 2^63 - 1")
    if (count := math.prod(dims)) >= 1 << 63:
        raise fault(f"dimensions {dims} overflow: {count} elements")
    if (dims[0] if dims else 1) % block.block:
        raise fault(
            f"a row of {dims[0] if dims else 1} is not a whole number of {block.name} blocks of {block.block}"
        )
    if offset % alignment:
        raise fault(f"offset {offset} is not a multiple of the alignment {alignment}")
    return start, GgufTensor(
        name, block.name, tuple(reversed(dims)), count // block.block * block.bytes, offset
    )


def _place(cursor: Cursor, header: Header, entries: list[tuple[int, GgufTensor]]) -> None:
    """Make offsets absolute; every tensor inside the file, none on the bytes of another."""
    size, end, before = len(cursor.data), 0, ""
    data_start = -(-cursor.at // header.alignment) * header.alignment
    for start, t in sorted(entries, key=lambda entry: entry[1].offset):
        name, offset = f"tensor {shown(t.name)}", data_start + t.offset
        if offset + t.nbytes > size:
            raise cursor.fault(
                f"its {t.nbytes} bytes at offset {t.offset} of the data go past the end of the file ({size} bytes): truncated, "
                f"or a wrong size",
                at=start,
                key=name,
            )
        if offset < end:
            raise cursor.fault(f"its bytes overlap those of tensor {shown(before)}", at=start, key=name)
        end, before = offset + t.nbytes, t.name
    for start, t in entries:
        if t.name in header.tensors:
            raise cursor.fault("two tensors have this name", at=start, key=f"tensor {shown(t.name)}")
        header.tensors[t.name] = replace(t, offset=data_start + t.offset)
