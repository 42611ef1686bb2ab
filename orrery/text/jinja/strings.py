"""The methods of strings, with the marks carried along: what `text.strip()` keeps is still the message's.

Each takes (rendering, text, arguments...) as the method of str does, and asks for room before it makes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.marked import Text, concat, cut, like, marks_of
from orrery.text.jinja.values import Undefined


def _string(value: Any) -> str:
    if isinstance(value, Undefined):
        raise value.fail()
    if not isinstance(value, str):
        raise TypeError(f"a string is needed, not {type(value).__name__}")
    return value


def _pieces(text: str, found: list[str], gap: int | None) -> list[str]:
    """The pieces that str.split found, as slices; `gap` is the length of the separator, None for whitespace."""
    out, at = [], 0
    for piece in found:
        at = at if gap is not None else text.index(piece, at)
        out.append(cut(text, slice(at, at + len(piece))))
        at += len(piece) + (gap or 0)
    return out


def split(run: Any, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    """`str.split`."""
    run.budget.items(text.count(sep) if sep else len(text) // 2)
    return _pieces(text, str.split(text, sep, maxsplit), None if sep is None else len(sep))


def rsplit(run: Any, text: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
    """`str.rsplit`."""
    run.budget.items(text.count(sep) if sep else len(text) // 2)
    return _pieces(text, str.rsplit(text, sep, maxsplit), None if sep is None else len(sep))


def splitlines(run: Any, text: str, keepends: bool = False) -> list[str]:
    """`str.splitlines`."""
    run.budget.items(len(text) // 2)
    whole = _pieces(text, str.splitlines(text, True), 0)
    return whole if keepends else [cut(line, slice(0, len(str.splitlines(line)[0]))) for line in whole]


def _partition(run: Any, text: str, sep: str, at: int, found: bool) -> tuple[str, str, str]:
    run.budget.grow(len(text))
    return (
        cut(text, slice(0, at)),
        cut(text, slice(at, at + len(sep) * found)),
        cut(text, slice(at + len(sep) * found, None)),
    )


def partition(run: Any, text: str, sep: str) -> tuple[str, str, str]:
    """`str.partition`."""
    before, middle, _ = str.partition(text, sep)
    return _partition(run, text, sep, len(before), bool(middle))


def rpartition(run: Any, text: str, sep: str) -> tuple[str, str, str]:
    """`str.rpartition`."""
    before, middle, _ = str.rpartition(text, sep)
    return _partition(run, text, sep, len(before), bool(middle))


def lstrip(run: Any, text: str, chars: str | None = None) -> str:
    """`str.lstrip`."""
    run.budget.grow(len(text))
    return cut(text, slice(len(text) - len(str.lstrip(text, chars)), None))


def rstrip(run: Any, text: str, chars: str | None = None) -> str:
    """`str.rstrip`."""
    run.budget.grow(len(text))
    return cut(text, slice(0, len(str.rstrip(text, chars))))


def strip(run: Any, text: str, chars: str | None = None) -> str:
    """`str.strip`."""
    return rstrip(run, lstrip(run, text, chars), chars)


def removeprefix(run: Any, text: str, prefix: str) -> str:
    """`str.removeprefix`."""
    run.budget.grow(len(text))
    return cut(text, slice(len(prefix) if text.startswith(prefix) else 0, None))


def removesuffix(run: Any, text: str, suffix: str) -> str:
    """`str.removesuffix`."""
    run.budget.grow(len(text))
    return cut(text, slice(0, len(text) - (len(suffix) if text.endswith(suffix) else 0)))


def replace(run: Any, text: str, old: str, new: str, count: int = -1) -> str:
    """`str.replace`."""
    old, new = _string(old), _string(new)
    hits = text.count(old) if count < 0 else min(text.count(old), count)
    run.budget.grow(len(text) + hits * len(new))
    if not hits:
        return text
    if not old:  # stands between all characters
        parts = [part for char in range(hits) for part in (new, cut(text, slice(char, char + 1)))]
        return _same_flag(text, concat([*parts, cut(text, slice(hits, None))], run.mark))
    run.budget.items(hits)
    pieces = _pieces(text, str.split(text, old, count), len(old))
    return _same_flag(text, concat(_between(pieces, new), run.mark))


def join(run: Any, text: str, parts: Iterable[str]) -> str:
    """`str.join`."""
    parts = [_string(part) for part in run.iterate(parts)]
    run.budget.grow(sum(map(len, parts)) + len(text) * len(parts))
    return concat(_between(parts, text), run.mark)


def _between(parts: list[str], separator: str) -> list[str]:
    return [piece for part in parts for piece in (separator, part)][1:]


def _same_flag(text: str, made: str) -> str:
    if isinstance(text, Text) and text.safe:
        return Text(made, marks_of(made, "\0"), True)
    return made


def _pad(run: Any, text: str, width: int, fill: str, left: Callable[[int], int]) -> str:
    if width > 16 * run.budget.limits.digits:
        raise OrreryError(f"the chat template pads a text to {width} characters; do not use it")
    if len(_string(fill)) != 1:
        raise TypeError("a text is padded with one character")
    room = max(width - len(text), 0)
    run.budget.grow(len(text) + room)
    return concat([fill * left(room), text, fill * (room - left(room))], run.mark)


def center(run: Any, text: str, width: int, fill: str = " ") -> str:
    """`str.center`."""
    return _pad(run, text, width, fill, lambda room: room // 2 + (room & width & 1))


def ljust(run: Any, text: str, width: int, fill: str = " ") -> str:
    """`str.ljust`."""
    return _pad(run, text, width, fill, lambda room: 0)


def rjust(run: Any, text: str, width: int, fill: str = " ") -> str:
    """`str.rjust`."""
    return _pad(run, text, width, fill, lambda room: room)


def zfill(run: Any, text: str, width: int) -> str:
    """`str.zfill`."""
    sign = int(text[:1] in ("+", "-") and bool(text))
    padded = rjust(run, cut(text, slice(sign, None)), width - sign, "0")
    return concat([cut(text, slice(0, sign)), padded], run.mark)


def expandtabs(run: Any, text: str, tabsize: int = 8) -> str:
    """`str.expandtabs`."""
    if abs(tabsize) > 64:
        raise OrreryError("the chat template expands tabs to more than 64 spaces; do not use it")
    run.budget.grow(len(text) * 64)
    return like(text, str.expandtabs(text, tabsize))


def _mapped(change: Callable[[str], str]) -> Callable[..., str]:
    """A method that changes letters; one that grows a letter (ß to SS) blurs the marks to one."""

    def method(run: Any, text: str) -> str:
        run.budget.grow(len(text))
        return like(text, change(text))

    return method


def _asked(question: Callable[..., Any]) -> Callable[..., Any]:
    """A method that only looks."""

    def method(run: Any, text: str, *args: Any) -> Any:
        run.budget.tick(1 + (len(text) >> 8))
        for arg in args:
            if isinstance(arg, Undefined):
                raise arg.fail()
        return question(text, *args)

    return method


METHODS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (split, rsplit, splitlines, partition, rpartition, lstrip, rstrip, strip, removeprefix,
                     removesuffix, replace, join, center, ljust, rjust, zfill, expandtabs)
}  # fmt: skip
METHODS |= {
    change.__name__: _mapped(change)
    for change in (str.capitalize, str.casefold, str.lower, str.swapcase, str.title, str.upper)
}
METHODS |= {
    question.__name__: _asked(question)
    for question in (str.count, str.endswith, str.find, str.index, str.isalnum, str.isalpha, str.isascii, str.isdecimal,
                     str.isdigit, str.isidentifier, str.islower, str.isnumeric, str.isprintable, str.isspace, str.istitle,
                     str.isupper, str.rfind, str.rindex, str.startswith)
}  # fmt: skip
