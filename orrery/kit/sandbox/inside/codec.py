"""Plain Python values as JSON and back, and frames of it on pipes: how two interpreters that do not trust each other talk.

JSON's own scalars stand for themselves; everything else is a list that begins with its kind, so a list is `["list", ...]`.
Values of a class that is none of these stay where they are: the other side gets `["far", number]`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any

MOST_BYTES = 16 << 20
_EXACT = 1 << 53
"""Whole numbers up to here are written in decimal; longer ones in hexadecimal, whose reading takes linear time."""


class Broken(Exception):
    """The other side is gone, or sent what is no frame."""


def encode(value: Any, far: Callable[[Any], Any]) -> Any:
    """`value` in JSON's terms; `far(value)` gives the form of what has no plain one.

    Values of subclasses are written as their base: a float that claims to equal everything arrives as its number.
    """
    if value is None or value is True or value is False:
        return value
    match value:
        case str():
            return str.__str__(value)
        case int():
            number = int.__index__(value)
            return number if -_EXACT < number < _EXACT else ["int", hex(number)]
        case float():
            return float.__float__(value)
        case list() | tuple() | set() | frozenset() | deque():
            kind = next(k for k in (list, tuple, set, frozenset, deque) if isinstance(value, k))
            return [kind.__name__, *(encode(item, far) for item in kind.__iter__(value))]  # type: ignore[arg-type]
        case dict():
            return ["dict", *([encode(k, far), encode(v, far)] for k, v in dict.items(value))]
        case bytes() | bytearray():
            return [type(value).__name__, value.hex()]
        case complex():
            return ["complex", value.real, value.imag]
        case range():
            return ["range", value.start, value.stop, value.step]
    if isinstance(value, type) and value in TYPES.values():
        return ["type", value.__name__]
    if type(value).__name__ in ("Decimal", "Fraction"):
        return [type(value).__name__, str(value)]
    return far(value)


TYPES = {t.__name__: t for t in (int, float, str, bool, list, tuple, dict, set, frozenset, bytes, complex)}


def decode(form: Any, far: Callable[[int], Any]) -> Any:
    """The value of `encode`'s form, of Python's own classes; `far(number)` stands for one that stayed on the other side.

    Raises:
        Broken: it is no such form.
    """
    if not isinstance(form, list):
        return form
    match form:
        case ["int", str(text)]:
            return int(text, 16)
        case ["list", *items]:
            return [decode(item, far) for item in items]
        case ["tuple", *items]:
            return tuple(decode(item, far) for item in items)
        case ["set", *items]:
            return {decode(item, far) for item in items}
        case ["frozenset", *items]:
            return frozenset(decode(item, far) for item in items)
        case ["deque", *items]:
            return deque(decode(item, far) for item in items)
        case ["dict", *pairs]:
            return {decode(k, far): decode(v, far) for k, v in pairs}
        case ["bytes", str(text)]:
            return bytes.fromhex(text)
        case ["bytearray", str(text)]:
            return bytearray.fromhex(text)
        case ["complex", real, imaginary]:
            return complex(real, imaginary)
        case ["range", start, stop, step]:
            return range(start, stop, step)
        case ["type", str(name)] if name in TYPES:
            return TYPES[name]
        case ["Decimal", str(text)]:
            from decimal import Decimal

            return Decimal(text)
        case ["Fraction", str(text)]:
            from fractions import Fraction

            return Fraction(text)
        case ["far", int(number)]:
            return far(number)
    raise Broken("a value of no known form")


def send(pipe: int, message: Any) -> None:
    """One frame: four bytes of length, then JSON."""
    data = json.dumps(message).encode()
    if len(data) > MOST_BYTES:
        raise ValueError(f"a value of {len(data):,} bytes; at most {MOST_BYTES:,} can be passed on")
    write_all(pipe, len(data).to_bytes(4, "big") + data)


def receive(pipe: int) -> Any:
    """The next frame.

    Raises:
        Broken: the pipe has ended, or the frame is too long or no JSON.
    """
    size = int.from_bytes(read_exactly(pipe, 4), "big")
    if size > MOST_BYTES:
        raise Broken("a frame that is too long")
    try:
        return json.loads(read_exactly(pipe, size))
    except (ValueError, RecursionError):
        raise Broken("a frame that is no JSON") from None


def read_exactly(pipe: int, size: int) -> bytes:
    """So many bytes.

    Raises:
        Broken: the pipe ends before.
    """
    data = bytearray()
    while len(data) < size:
        block = os.read(pipe, min(size - len(data), 1 << 16))
        if not block:
            raise Broken("the other side is gone")
        data += block
    return bytes(data)


def read_all(pipe: int) -> bytes:
    """All bytes until the writer closes."""
    data = bytearray()
    while block := os.read(pipe, 1 << 16):
        data += block
    return bytes(data)


def write_all(pipe: int, data: bytes) -> None:
    """Write every byte, however small the pipe."""
    view = memoryview(data)
    while view:
        view = view[os.write(pipe, view) :]
