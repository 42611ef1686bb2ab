"""JSON from files that somebody else made, with limits and without JSON's loose ends.

Refused, beside what is not JSON: a key given twice (readers disagree on which counts), NaN and Infinity (no JSON), numbers
that overflow, lone halves of characters, nesting or a number of values beyond a limit. Depth and count are found by a
scan in blocks before anything is built, so a hostile file costs neither memory nor the interpreter's stack.
"""

from __future__ import annotations

import codecs
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from orrery.kit.errors import OrreryError
from orrery.kit.untrusted import describe, head_of, open_regular, read_regular

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
MAX_VALUES = 1 << 20
LARGE = 4 << 20
"""Bytes from which on a file is looked at in blocks before it is read."""
DIGITS = 64
"""digits of a whole number: some tokenizer settings hold one of 31 to say "no limit"."""
_BLOCK = 1 << 18
_CONTROL = set(range(0x20)) - set(b"\t\n\r")
_KEEP = bytes(set(range(256)) - set(b'"\\[]{},') - _CONTROL)
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"[{")], _STEP[list(b"]}")] = 1, -1


class JsonFault(OrreryError):
    """A text that is no JSON as wanted here; the message says why and at which byte, without naming a file."""


def read_json(
    path: str | Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
    what: str = "a JSON file",
) -> Any:
    """The value in a JSON file.

    Raises:
        OrreryError: missing, not a regular file, over a limit, not UTF-8, or not JSON; names the file, the byte or key,
            and the rule.
    """
    path = Path(path)
    if found := describe(head_of(path)):
        raise OrreryError(f"'{path}' is not JSON (it holds {found}); copy the file again from where it came")
    try:
        scanned = _scan_file(path, what, max_bytes, Scan(max_depth, max_values))
        data = read_regular(path, what, max_bytes=max_bytes)
        return parse_text(
            _utf8(data) if scanned else decoded(data, max_depth=max_depth, max_values=max_values)
        )
    except JsonFault as error:
        raise OrreryError(f"'{path}' is not JSON ({error}); copy the file again from where it came") from None


def _scan_file(path: Path, what: str, max_bytes: int, found: Scan) -> bool:
    """Refuse a large file by its blocks, before it takes its size in memory; False for a small one."""
    with open_regular(path, what, max_bytes=max_bytes) as handle:
        if os.fstat(handle.fileno()).st_size <= LARGE:
            return False
        decoder = codecs.getincrementaldecoder("utf-8")()
        while block := handle.read(_BLOCK):
            found.feed(block)
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                raise JsonFault(f"not UTF-8 before byte {handle.tell():,}") from None
    return True


def read_object(path: str | Path, **limits: Any) -> dict[str, Any]:
    """`read_json` of a file that must hold an object.

    Raises:
        OrreryError: as `read_json`, or it holds something else.
    """
    value = read_json(path, **limits)
    if not isinstance(value, dict):
        raise OrreryError(
            f"'{path}' must hold a JSON object, not {_kind(value)}; copy the file again from where it came"
        )
    return value


def parse_json(
    data: bytes,
    *,
    max_depth: int = MAX_DEPTH,
    max_values: int = MAX_VALUES,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
    nan: bool = False,
) -> Any:
    """The value of JSON bytes.

    Args:
        nan: let NaN, Infinity and -Infinity through, for files that Python wrote.
        pairs: makes the value of an object from its (key, value) pairs; the default makes a dict and refuses a key twice.

    Raises:
        JsonFault: it is not JSON, or beyond a limit.
    """
    return parse_text(decoded(data, max_depth=max_depth, max_values=max_values), pairs=pairs, nan=nan)


def decoded(data: bytes, *, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES) -> str:
    """The text of JSON bytes whose depth and number of values are within limits.

    Raises:
        JsonFault: they are not, or it is not UTF-8.
    """
    scan(data, max_depth=max_depth, max_values=max_values)
    return _utf8(data)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonFault(f"not UTF-8 at byte {error.start}") from None


def parse_text(
    text: str, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None, nan: bool = False
) -> Any:
    """The value of a text that `decoded` let through.

    Raises:
        JsonFault: it is not JSON.
    """
    if text.startswith("\ufeff"):
        raise JsonFault("it begins with a byte order mark, at byte 0")
    decoder = _UNIQUE if pairs is None and not nan else _decoder(pairs or unique, nan=nan)
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        at = len(text[: error.pos].encode())
        raise JsonFault(f"{error.msg[:1].lower()}{error.msg[1:]}, at byte {at}") from None
    except RecursionError:
        raise JsonFault("nested too deep") from None
    if "\\ud" in text or "\\uD" in text:
        _whole_characters(value)
    return value


def scan(data: bytes, *, max_depth: int, max_values: int) -> None:
    """Count depth and values of JSON bytes.

    Raises:
        JsonFault: nested deeper than `max_depth`, more than `max_values` values, or a control character.
    """
    if data.count(b"[") + data.count(b"{") <= max_depth and data.count(b",") + max_depth < max_values:
        return  # a short text: it cannot be beyond either
    found = Scan(max_depth, max_values)
    for at in range(0, len(data), _BLOCK):
        found.feed(data[at : at + _BLOCK])


class Scan:
    """Depth and number of values (brackets and commas outside strings) of JSON that comes in blocks, cut anywhere."""

    def __init__(self, max_depth: int, max_values: int) -> None:
        self.max_depth, self.max_values = max_depth, max_values
        self._depth, self._values, self._inside, self._escape, self._at = 0, 1, 0, b"", 0

    def feed(self, block: bytes) -> None:
        """The next block.

        Raises:
            JsonFault: beyond a limit, or a control character, which JSON has only escaped.
        """
        self._at += len(block)
        block = self._escape + block
        end = len(block.rstrip(b"\\"))
        self._escape = b"\\" * ((len(block) - end) % 2)  # the half of an escape; whole ones say nothing
        block = block[:end]
        if b"\\" in block:
            block = block.replace(b"\\\\", b"").replace(b'\\"', b"")
        marks = np.frombuffer(block.translate(None, _KEEP), dtype=np.uint8)
        if len(marks) == 0:
            return
        if int(marks.min()) < 0x20:
            raise JsonFault(f"a control character before byte {self._at:,}")
        quotes = np.cumsum(marks == 0x22, dtype=np.int32)
        steps = _STEP[marks[((quotes + self._inside) & 1 == 0) & (marks != 0x22)]]
        self._inside = (self._inside + int(quotes[-1])) & 1
        if len(steps):
            depths = self._depth + np.cumsum(steps, dtype=np.int32)
            if int(depths.max()) > self.max_depth:
                raise JsonFault(f"nested more than {self.max_depth} deep")
            self._depth = int(depths[-1])
            self._values += int(np.count_nonzero(steps >= 0))
        if self._values > self.max_values:
            raise JsonFault(f"more than {self.max_values:,} values")


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of pairs whose keys differ.

    Raises:
        JsonFault: a key is given twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise JsonFault(f"the key {twice[:80]!r} is given twice")
    return made


def _decoder(pairs: Callable[[list[tuple[str, Any]]], Any], *, nan: bool = False) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=pairs,
        parse_int=_int,
        parse_float=_float,
        parse_constant=float if nan else _constant,
    )


def _int(digits: str) -> int:
    if len(digits) > DIGITS:
        raise JsonFault(f"a whole number of {len(digits):,} digits (limit {DIGITS})")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits) if len(digits) <= 1024 else math.inf
    if math.isinf(value):
        raise JsonFault(f"the number {digits[:40]} is beyond what a float holds")
    return value


def _constant(name: str) -> NoReturn:
    raise JsonFault(f"{name} is no JSON number")


def _whole_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonFault("a string holds half a character (a lone \\ud800 escape)") from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false"}
    return names.get(type(value), "null")


_UNIQUE = _decoder(unique)
