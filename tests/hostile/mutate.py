"""Seeded damage to small files: bytes, lengths, regions, and the values inside JSON.

`mutate(data, rng, kind)` gives another file. Nothing here knows what a loader checks; `kind` says how a file is read: "bytes",
"text" (words are worth inserting), "json", or "safetensors" (JSON after a length that is then put right, or not).
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["bytes", "text", "json", "safetensors"]

EDGES = (
    0,
    1,
    2,
    7,
    8,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
WORDS = [
    b"null", b"true", b"-1", b"1e999", b"NaN", b"0.5", b"[]", b"{}", b'""', b'"a":1,', b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\",
    b"\\u0000", b"\\ud800", b"\xff", b"\0", b"\n", b"\r\n", b"\t", b"  ", b"\xef\xbb\xbf", b"&a ", b"*a", b"!!python/name:os.system ",
    b"<<: ", b"---\n", b"- ", b"../", b"/etc/passwd", b"{{ ", b" }}", b"{% ", b" %}", b"{%- for x in range(99) %}", b"{% endfor %}",
    b"{% if true %}", b"{% endif %}", b"**", b"//", b"|upper", b".__class__", b"[0]", b"~", b"'", b"(", b")", b"%s", b"loop.index",
    b"PAR1", b"GGUF", b"PK\x03\x04", b"99999999999999999999", b"0x10", b"__metadata__", b"data_offsets",
]  # fmt: skip
VALUES: list[Callable[[random.Random], Any]] = [
    lambda r: None, lambda r: True, lambda r: False, lambda r: r.choice(EDGES), lambda r: -r.choice(EDGES), lambda r: r.random() * 10 ** r.randint(-300, 300),
    lambda r: "", lambda r: "x" * r.choice((1, 10, 2000)), lambda r: "../../x", lambda r: "/etc/passwd", lambda r: "a\0b", lambda r: [], lambda r: {},
    lambda r: [[]] * r.randint(1, 5), lambda r: nest(r.choice((3, 40, 90, 300))), lambda r: {"_target_": "os.system"}, lambda r: "${env:HOME}",
    lambda r: list(range(r.choice((2, 9, 300)))), lambda r: r.randint(-3, 40), lambda r: 1.5, lambda r: "llama", lambda r: "<s>", lambda r: {"a": None},
]  # fmt: skip


def nest(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def mutate(data: bytes, rng: random.Random, kind: Kind) -> bytes:
    """One to four kinds of damage, one after the other."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        if kind == "json" and rng.random() < 0.6:
            data = _json_edit(data, rng)
        elif kind == "safetensors" and rng.random() < 0.5:
            data = _header_edit(data, rng)
        else:
            data = rng.choice(_BYTES if kind == "bytes" else _TEXT)(data, rng)
    return data


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    new = (
        rng.randbytes(rng.randint(1, 8))
        if rng.random() < 0.5
        else rng.choice((b"\0", b"\xff", b"\x80")) * rng.randint(1, 16)
    )
    return data[:at] + new + data[at + len(new) :]


def _truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _extend(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((b"\0", b" ", b"\n", rng.randbytes(1))) * rng.choice((1, 3, 8, 100, 5000))


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + _size(data, rng) :]


def _duplicate(data: bytes, rng: random.Random) -> bytes:
    at, to = _place(data, rng), _place(data, rng)
    return data[:to] + data[at : at + _size(data, rng)] * rng.choice((1, 1, 2, 20)) + data[to:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted((_place(data, rng), _place(data, rng)))
    size = min(_size(data, rng), b - a)
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def _length(data: bytes, rng: random.Random) -> bytes:
    """A number at the start, at a multiple of four, or anywhere, becomes an edge; or a bit off what it was."""
    at = rng.choice((0, 4 * rng.randrange(len(data) // 4 + 1), _place(data, rng)))
    form = rng.choice(("<I", "<Q", "<H"))
    size = struct.calcsize(form)
    old = int.from_bytes(data[at : at + size], "little")
    new = rng.choice((rng.choice(EDGES), old + rng.choice((-8, -1, 1, 8)), old * 2, len(data)))
    return data[:at] + struct.pack(form, new % (1 << 8 * size)) + data[at + size :]


def _word(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.choice(WORDS) * rng.choice((1, 1, 1, 3)) + data[at + rng.choice((0, 0, 1, 4)) :]


def _number(data: bytes, rng: random.Random) -> bytes:
    """One run of digits becomes another number."""
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return _word(data, rng)
    at = rng.choice(places)
    end = at
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    return data[:at] + str(rng.choice((*EDGES, -1, 0.5, 10**30))).encode() + data[end:]


def _line(data: bytes, rng: random.Random) -> bytes:
    """A line is doubled, left out, moved or indented."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.insert(at, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        case _:
            lines[at] = b" " * rng.randint(1, 5) + lines[at]
    return b"\n".join(lines)


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(len(data) + 1) if rng.random() < 0.7 else min(len(data), rng.randrange(64))


def _size(data: bytes, rng: random.Random) -> int:
    return rng.choice((1, 2, 4, 8, 16, 64, 256, len(data) // 2 + 1))


_BYTES = (_flip, _flip, _overwrite, _truncate, _extend, _remove, _duplicate, _swap, _length, _length, _word)
_TEXT = (
    _flip,
    _overwrite,
    _truncate,
    _remove,
    _duplicate,
    _swap,
    _word,
    _word,
    _word,
    _number,
    _number,
    _line,
)


# --- JSON


def _json_edit(data: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return rng.choice(_TEXT)(data, rng)
    return edited(value, rng)


def _header_edit(data: bytes, rng: random.Random) -> bytes:
    """The header's JSON changed, the length before it put right (mostly)."""
    size = int.from_bytes(data[:8], "little")
    header = _json_edit(data[8 : 8 + size], rng)
    length = len(header) if rng.random() < 0.9 else rng.choice(EDGES)
    return (length % 2**64).to_bytes(8, "little") + header + data[8 + size :]


def edited(value: Any, rng: random.Random) -> bytes:
    """JSON of `value` with one thing in it changed: a value, a key, a key given twice, an entry less or more."""
    places = _places(value)
    if not places:
        return json.dumps(rng.choice(VALUES)(rng)).encode()
    parent, key = rng.choice(places)
    action = rng.randrange(6)
    if action == 0:
        del parent[key]
    elif action == 1 and isinstance(parent, dict):
        old = parent.pop(key)
        parent[rng.choice((key + "x", key[:-1], key.upper(), "", "__metadata__", "a\0"))] = old
    elif action == 2:
        other, there = rng.choice(places)
        parent[key] = (
            other[there] if there in (other if isinstance(other, dict) else range(len(other))) else None
        )
    elif action == 3 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = rng.choice(
            (
                parent[key] + 1,
                parent[key] - 1,
                -parent[key],
                parent[key] * 2,
                parent[key] * 1000,
                float(parent[key]),
            )
        )
    elif action == 4 and isinstance(parent, dict):
        text = json.dumps(value)
        return text.replace(
            json.dumps(key) + ":",
            f"{json.dumps(key)}: {json.dumps(rng.choice(VALUES)(rng))}, {json.dumps(key)}:",
            1,
        ).encode()
    else:
        parent[key] = rng.choice(VALUES)(rng)
    try:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")
    except (RecursionError, ValueError):
        return b"["


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside a value; not too many of a long list."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(found) < 3000:
        node = waiting.pop()
        keys = (
            list(node)
            if isinstance(node, dict)
            else list(range(min(len(node), 50)))
            if isinstance(node, list)
            else []
        )
        found += [(node, key) for key in keys]
        waiting += [node[key] for key in keys if isinstance(node[key], dict | list)]
    return found
