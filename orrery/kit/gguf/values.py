"""Reading the values of a GGUF file one after another, none past the end of the file or over a limit.

Everything here is arithmetic on numbers that a stranger chose, so each is checked where it is read. Python's integers do
not wrap, which is half of the safety; the other half is that nothing is allocated by a count: arrays of numbers are
copied only after their bytes are known to be in the file and under a limit, strings are taken one at a time.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

from orrery.kit.errors import OrreryError

MAX_HEADER_BYTES = 24 << 20  # 262,144 tokens and 515,000 merges, the most in use, take about 16 MiB
MAX_ARRAY_BYTES = 16 << 20  # of all arrays of numbers together
MAX_STRING_BYTES = 8 << 20
MAX_STRINGS = 1 << 20  # in all arrays together
MAX_KEY_BYTES = (1 << 16) - 1
MAX_NAME_BYTES = 64  # of a tensor
DAMAGED = "the file is damaged or was tampered with: fetch or make it again"

NUMBERS: dict[int, tuple[str, np.dtype[Any]]] = {
    0: ("uint8", np.dtype("<u1")),
    1: ("int8", np.dtype("<i1")),
    2: ("uint16", np.dtype("<u2")),
    3: ("int16", np.dtype("<i2")),
    4: ("uint32", np.dtype("<u4")),
    5: ("int32", np.dtype("<i4")),
    6: ("float32", np.dtype("<f4")),
    7: ("bool", np.dtype("?")),
    10: ("uint64", np.dtype("<u8")),
    11: ("int64", np.dtype("<i8")),
    12: ("float64", np.dtype("<f8")),
}
STRING, ARRAY = 8, 9
BOOL = 7

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


def shown(text: str) -> str:
    """A key or name as it is safe to print: quoted, and short."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


class Cursor:
    """A place in the mapped file that moves forward and never past its end."""

    def __init__(self, path: Path, data: mmap.mmap, max_array_depth: int) -> None:
        self.path, self.data, self.at = path, data, 0
        self.end = min(len(data), MAX_HEADER_BYTES)
        self.max_array_depth = max_array_depth
        self.strings_left, self.array_bytes_left = MAX_STRINGS, MAX_ARRAY_BYTES

    def fault(self, rule: str, *, at: int | None = None, key: str = "", fix: str = DAMAGED) -> OrreryError:
        """The one sentence: file, byte or key, rule, fix."""
        where = f"byte {self.at if at is None else at}" + (f", {key}" if key else "")
        return OrreryError(f"'{self.path}' cannot be read as GGUF: at {where}: {rule}; {fix}")

    def need(self, size: int, what: str) -> int:
        """Move over `size` bytes and say where they start."""
        start = self.at
        if size > self.end - start:
            rule = (
                f"the file ends inside {what} ({size} bytes needed, {self.end - start} left): truncated, or a wrong length"
                if self.end == len(self.data)
                else f"{what} goes past the first {MAX_HEADER_BYTES >> 20} MiB, in which all metadata has to lie"
            )
            raise self.fault(rule)
        self.at = start + size
        return start

    def u32(self, what: str) -> int:
        """Four bytes; `what` they are is for the message."""
        return _U32.unpack_from(self.data, self.need(4, what))[0]

    def u64(self, what: str) -> int:
        """Eight bytes."""
        return _U64.unpack_from(self.data, self.need(8, what))[0]

    def string(self, what: str) -> str:
        """A length and as many bytes of UTF-8."""
        size = self.u64(f"the length of {what}")
        start = self.need(size, what)
        if size > MAX_STRING_BYTES:
            raise self.fault(f"{what} has {size} bytes, more than {MAX_STRING_BYTES}", at=start)
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise self.fault(f"{what} is not UTF-8 text", at=start + error.start) from None

    def name(self, what: str, longest: int) -> str:
        """A key or the name of a tensor: not empty, not long, no NUL (at which C programs would stop reading)."""
        start = self.at
        size = self.u64(f"the length of {what}")
        if not 0 < size <= longest and size <= self.end - self.at:
            rule = f"{what} is empty" if size == 0 else f"{what} has {size} bytes, more than {longest}"
            raise self.fault(rule, at=start)
        self.at = start
        text = self.string(what)
        if "\0" in text:
            raise self.fault(f"{what} holds a NUL character", at=start)
        return text

    def value(self, type_id: int, key: str) -> tuple[Any, str]:
        """One metadata value and the name of its type."""
        start = self.at
        if type_id == STRING:
            return self.string(f"the value of {key}"), "string"
        if type_id == ARRAY:
            return self.array(key, depth=1)
        if type_id not in NUMBERS:
            raise self.fault(f"value type {type_id} is not one of 0 to 12", at=start - 4, key=key)
        kind = NUMBERS[type_id][0]
        return self.numbers(type_id, 1, key)[0].item(), kind

    def numbers(self, type_id: int, count: int, key: str) -> np.ndarray:
        """`count` numbers, copied out of the file."""
        dtype = NUMBERS[type_id][1]
        start = self.need(count * dtype.itemsize, f"the value of {key}")
        found = np.frombuffer(self.data, np.uint8, count * dtype.itemsize, start)
        if type_id == BOOL and found.size and found.max() > 1:
            raise self.fault("a bool is neither 0 nor 1", at=start + int((found > 1).argmax()), key=key)
        return found.copy().view(dtype)

    def array(self, key: str, depth: int) -> tuple[Any, str]:
        """Element type, count, elements. Returns them and the name of the whole type."""
        start = self.at
        type_id, count = self.u32(f"the type of array {key}"), self.u64(f"the length of array {key}")
        if type_id == STRING:
            return self.strings(count, key), "array[string]"
        if type_id == ARRAY:
            return self.nested(count, key, depth + 1), "array[array]"
        if type_id not in NUMBERS:
            raise self.fault(f"element type {type_id} is not one of 0 to 12", at=start, key=key)
        kind, dtype = NUMBERS[type_id]
        self._fits(count, dtype.itemsize, key)
        self.array_bytes_left -= count * dtype.itemsize
        if self.array_bytes_left < 0:
            raise self.fault(
                f"arrays of numbers take more than {MAX_ARRAY_BYTES >> 20} MiB", at=start, key=key
            )
        return self.numbers(type_id, count, key), f"array[{kind}]"

    def strings(self, count: int, key: str) -> list[str]:
        """An array of strings; written out flat, since a vocabulary has 262,144 of them."""
        self._fits(count, 8, key)
        self.strings_left -= count
        if self.strings_left < 0:
            raise self.fault(f"more than {MAX_STRINGS} strings in arrays", key=key)
        data, end, unpack, found = self.data, self.end, _U64.unpack_from, []
        at = start = self.at
        try:
            for _ in range(count):
                start = at + 8
                if start > end or (at := start + unpack(data, at)[0]) > end:
                    self.at = start - 8
                    raise self.fault(
                        f"string {len(found)} of the array runs past the end of the file", key=key
                    )
                found.append(data[start:at].decode())
        except UnicodeDecodeError as error:
            raise self.fault(
                f"string {len(found)} of the array is not UTF-8 text", at=start + error.start, key=key
            ) from None
        self.at = at
        return found

    def nested(self, count: int, key: str, depth: int) -> list[Any]:
        """An array of arrays, each of which says its own type."""
        if depth > self.max_array_depth:
            raise self.fault(f"arrays are nested deeper than the limit of {self.max_array_depth}", key=key)
        self._fits(count, 12, key)
        self.strings_left -= count
        if self.strings_left < 0:
            raise self.fault(f"more than {MAX_STRINGS} arrays in arrays", key=key)
        return [self.array(key, depth)[0] for _ in range(count)]

    def _fits(self, count: int, smallest: int, key: str) -> None:
        if count * smallest > self.end - self.at:
            raise self.fault(
                f"an array of {count} elements of at least {smallest} bytes goes past the end of the file or the limit for "
                f"metadata ({self.end - self.at} bytes are left)",
                key=key,
            )
