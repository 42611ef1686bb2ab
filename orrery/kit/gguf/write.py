"""Writing GGUF version 3: atomic, and tensor by tensor, so that memory is bounded by the largest of them.

write_gguf(path, {"general.architecture": "llama", "llama.block_count": 2, "x": Typed("uint64", 5)},
           [("token_embd.weight", "Q8_0", (256, 64), lambda: raw)])
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_file
from orrery.kit.gguf.blocks import BLOCK_TYPES, row_bytes
from orrery.kit.gguf.header import DEFAULT_ALIGNMENT, MAX_ALIGNMENT, MAX_RANK, is_alignment
from orrery.kit.gguf.values import (
    ARRAY,
    MAX_ARRAY_BYTES,
    MAX_HEADER_BYTES,
    MAX_KEY_BYTES,
    MAX_NAME_BYTES,
    MAX_STRING_BYTES,
    NUMBERS,
    STRING,
    shown,
)

TensorToWrite = tuple[str, str, tuple[int, ...], Callable[[], np.ndarray]]

_IDS = {name: number for number, (name, _) in NUMBERS.items()}
_DTYPES = {name: dtype for name, dtype in NUMBERS.values()}


class Typed(NamedTuple):
    """A metadata value with its exact type: `Typed("uint64", 5)`, `Typed("array[int32]", [1, 2])`."""

    kind: str
    value: Any


def write_gguf(path: str | Path, metadata: Mapping[str, Any], tensors: Iterable[TensorToWrite]) -> None:
    """Write a model; a reader sees the old file or the whole new one.

    Args:
        metadata: bool, str, float (float32), int (uint32 where it fits, else int32, uint64, int64), numpy scalars and
            arrays (their own type), lists (of str; of int as int32 where they fit; of float as float32; of bool), or
            `Typed`. `general.alignment` is honoured; without it the data is aligned to 32 bytes.
        tensors: (name, type, shape in torch's order, function that makes the bytes: uint8 of any shape, in row order).
            The functions are called one after another while the file is written, and nothing is kept.

    Raises:
        OrreryError: a name, type, shape or value that the format cannot hold, a function that gives another number of
            bytes than its type and shape need, or a file that cannot be written. Nothing is left behind.
    """
    tensors = list(tensors)
    alignment = _alignment(metadata)
    pairs = [_name("key", key, MAX_KEY_BYTES) + _value(f"key {shown(key)}", v) for key, v in metadata.items()]
    directory, sizes, offset = [], [], 0
    for name, kind, shape, _ in tensors:
        size = _size(name, kind, shape)
        directory.append(
            # one byte under the limit: llama.cpp keeps a closing NUL in its 64
            _name("tensor", name, MAX_NAME_BYTES - 1)
            + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), BLOCK_TYPES[kind].id, offset)
        )
        sizes.append(size)
        offset += -(-size // alignment) * alignment
    if len({name for name, *_ in tensors}) < len(tensors):
        names = [name for name, *_ in tensors]
        twice = next(name for name in names if names.count(name) > 1)
        raise OrreryError(f"tensor {shown(twice)} is given twice; give every tensor its own name")
    head = b"".join([b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs)), *pairs, *directory])
    if len(head) > MAX_HEADER_BYTES:
        raise OrreryError(
            f"'{path}' would have {len(head)} bytes of metadata, more than {MAX_HEADER_BYTES}; drop some of it"
        )
    with atomic_file(path) as write:
        write(head + b"\0" * (-len(head) % alignment))
        for tensor, size in zip(tensors, sizes, strict=True):
            write(_bytes(*tensor, size=size))
            write(b"\0" * (-size % alignment))


def _bytes(
    name: str, kind: str, shape: Sequence[int], make: Callable[[], np.ndarray], *, size: int
) -> memoryview:
    """Make a tensor's bytes; the caller keeps no name for them, so each is free before the next is made."""
    raw = np.ascontiguousarray(make())
    if raw.dtype != np.uint8 or raw.nbytes != size:
        raise OrreryError(
            f"tensor {shown(name)} of type {kind} and shape {tuple(shape)} needs {size} bytes (uint8) and its function gave "
            f"{raw.nbytes} of {raw.dtype}; give the bytes of exactly that type and shape"
        )
    return raw.reshape(-1).data


def _alignment(metadata: Mapping[str, Any]) -> int:
    given = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    kind, value = given if isinstance(given, Typed) else ("uint32", given)
    if kind != "uint32" or type(value) is not int or not is_alignment(value):
        raise OrreryError(
            f"key 'general.alignment' is {value!r} ({kind}); it has to be a uint32, a power of two up to {MAX_ALIGNMENT}"
        )
    return value


def _size(name: str, kind: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor."""
    if kind not in BLOCK_TYPES:
        raise OrreryError(f"tensor {shown(name)}: no type is called '{kind}'.{suggest(kind, BLOCK_TYPES)}")
    if len(shape) > MAX_RANK or any(size < 1 for size in shape):
        raise OrreryError(
            f"tensor {shown(name)} has the shape {tuple(shape)}; GGUF holds up to {MAX_RANK} dimensions of at least 1"
        )
    try:
        return math.prod(shape[:-1]) * row_bytes(kind, shape[-1] if shape else 1)
    except OrreryError as error:
        raise OrreryError(f"tensor {shown(name)}: {error}") from None


def _text(what: str, text: str) -> bytes:
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise OrreryError(
            f"{what} holds half of a surrogate pair, which UTF-8 cannot write; remove it"
        ) from None
    if len(data) > MAX_STRING_BYTES:
        raise OrreryError(f"{what} has {len(data)} bytes, more than {MAX_STRING_BYTES}; shorten it")
    return struct.pack("<Q", len(data)) + data


def _name(what: str, name: str, longest: int) -> bytes:
    data = _text(f"{what} {shown(name)}", name)
    if not 0 < len(data) - 8 <= longest or "\0" in name:
        raise OrreryError(
            f"{what} {shown(name)} has to be 1 to {longest} bytes of text without NUL; rename it"
        )
    return data


def _value(what: str, value: Any) -> bytes:
    """Type and bytes of one metadata value."""
    kind, value = _typed(what, value)
    if kind.startswith("array["):
        return struct.pack("<I", ARRAY) + _array(what, kind, value)
    if kind == "string" and isinstance(value, str):
        return struct.pack("<I", STRING) + _text(what, value)
    if kind in _IDS:
        return struct.pack("<I", _IDS[kind]) + _numbers(what, kind, [value])
    raise OrreryError(
        f"{what}: a value of type {type(value).__name__} cannot be written as '{kind}'; see Typed"
    )


def _array(what: str, kind: str, values: Any) -> bytes:
    """Element type, count and elements; `kind` as in `array[int32]`."""
    inner = kind[len("array[") : -1]
    if not kind.startswith("array[") or not isinstance(values, list | tuple | np.ndarray):
        raise OrreryError(f"{what}: {type(values).__name__} is not an array; give a list or a numpy array")
    if inner == "string" and all(isinstance(v, str) for v in values):
        return struct.pack("<IQ", STRING, len(values)) + b"".join(_text(what, text) for text in values)
    if inner.startswith("array"):
        return struct.pack("<IQ", ARRAY, len(values)) + b"".join(
            _array(what, *_typed(what, v)) for v in values
        )
    if inner not in _IDS:
        raise OrreryError(
            f"{what} cannot be written as '{kind}'; arrays are of string, {', '.join(_IDS)}, or arrays"
        )
    data = _numbers(what, inner, values)
    if len(data) > MAX_ARRAY_BYTES:
        raise OrreryError(f"{what} is an array of over {MAX_ARRAY_BYTES >> 20} MiB; store it as a tensor")
    return struct.pack("<IQ", _IDS[inner], len(values)) + data


def _numbers(what: str, kind: str, values: Any) -> bytes:
    """Numbers as `kind`, exactly for integers and bools, rounded to nearest for floats."""
    dtype, found = _DTYPES[kind], np.asarray(values)
    from_kinds = {"b": "b", "f": "fiu"}.get(dtype.kind, "iu")
    if found.ndim != 1 or (found.size and found.dtype.kind not in from_kinds):
        raise OrreryError(f"{what} cannot be written as '{kind}': it holds something else; see Typed")
    with np.errstate(over="ignore"):
        data = found.astype(dtype)
    lost = ~np.isfinite(data) & np.isfinite(found) if dtype.kind == "f" else data != found
    if lost.any():
        raise OrreryError(f"{what}: {found[lost][0]} does not fit '{kind}'; choose a wider type with Typed")
    return data.tobytes()


def _typed(what: str, value: Any) -> tuple[str, Any]:
    """The type a plain Python or numpy value is written as."""
    match value:
        case Typed():
            return value
        case np.ndarray() | np.generic() if value.dtype.name in _IDS:
            return (f"array[{value.dtype.name}]" if value.ndim else value.dtype.name), value
        case bool():
            return "bool", value
        case int():
            return _integer([value], "uint32", "int32", "uint64", "int64"), value
        case float():
            return "float32", value
        case str():
            return "string", value
        case list() | tuple():
            return f"array[{_element(what, value)}]", value
    raise OrreryError(f"{what}: a value of type {type(value).__name__} has no place in GGUF; see Typed")


def _element(what: str, values: Sequence[Any]) -> str:
    kinds = {type(v) for v in values}
    if kinds <= {str}:
        return "string"
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return _integer(values, "int32", "uint32", "int64", "uint64")
    if kinds <= {int, float}:
        return "float32"
    if kinds <= {list, tuple, np.ndarray, Typed}:
        return "array"
    names = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise OrreryError(f"{what}: a list of {names} has no type in GGUF; make its elements alike, or see Typed")


def _integer(values: Sequence[int], *preferred: str) -> str:
    """The first type that holds all of them."""
    for kind in preferred:
        limits = np.iinfo(_DTYPES[kind])
        if limits.min <= min(values) and max(values) <= limits.max:
            return kind
    return "uint64"  # where writing says that it does not fit
