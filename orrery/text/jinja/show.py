"""Values as text: what `{{ value }}` prints and what `value|tojson` writes, character for character as Python does, with marks."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

from orrery.text.jinja.marked import Text, concat, like, main_mark
from orrery.text.jinja.values import Function, Method, Namespace, Undefined


def show(run: Any, value: Any) -> str:
    """`str(value)`."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float | Undefined):
        return str(value)
    return show_inside(run, value)


def show_inside(run: Any, value: Any) -> str:
    """`repr(value)`: how it looks inside a list."""
    run.weigh(value)
    return concat(_repr(run, value), run.mark)


def _repr(run: Any, value: Any) -> Iterator[str]:
    run.budget.tick()
    match value:
        case str():
            yield like(value, repr(str(value)))
        case list() | tuple():
            single = "," if isinstance(value, tuple) and len(value) == 1 else ""
            opening, closing = "[]" if isinstance(value, list) else "()"
            yield from _listed(run, value, opening, single + closing)
        case Mapping():
            yield from _table(run, value)
        case KeysView() | ValuesView() | ItemsView():
            name = type(value).__name__.replace("odict", "dict")
            yield from _listed(run, value, f"{name}([", "])")
        case Namespace():
            yield "<Namespace "
            yield from _table(run, value.entries)
            yield ">"
        case None | bool() | int() | float() | range() | Undefined():
            yield repr(value)
        case Method() | Function():
            yield "<built-in function>"
        case _:
            yield f"<{type(value).__name__} object>"


def _listed(run: Any, items: Any, opening: str, closing: str) -> Iterator[str]:
    yield opening
    for at, item in enumerate(items):
        if at:
            yield ", "
        yield from _repr(run, item)
    yield closing


def _table(run: Any, table: Mapping[Any, Any]) -> Iterator[str]:
    yield "{"
    for at, (key, item) in enumerate(table.items()):
        if at:
            yield ", "
        yield from _repr(run, key)
        yield ": "
        yield from _repr(run, item)
    yield "}"


def to_json(
    run: Any,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`json.dumps` without HTML escapes; brackets and commas of a value from outside are marked like the value."""
    run.weigh(value)
    step = " " * run.small(indent) if isinstance(indent, int) else indent
    comma, colon = separators or ((", ", ": ") if indent is None else (",", ": "))
    quote = encode_basestring_ascii if ensure_ascii else encode_basestring
    writer = _Json(str(comma), str(colon), None if step is None else str(step), bool(sort_keys), quote)
    made = concat(writer.write(value, run.mark, 0), run.mark)
    run.budget.grow(len(made))
    return made


class _Json:
    def __init__(
        self, comma: str, colon: str, step: str | None, sort_keys: bool, quote: Callable[[str], str]
    ) -> None:
        self.comma, self.colon, self.step, self.sort_keys, self.quote = comma, colon, step, sort_keys, quote

    def write(self, value: Any, mark: str, level: int) -> Iterator[str]:
        if isinstance(value, str):
            yield self._string(value, mark)
        elif isinstance(value, dict | list | tuple):
            mark = getattr(value, "mark", mark)
            yield from (
                self._table(value, mark, level) if isinstance(value, dict) else self._row(value, mark, level)
            )
        else:
            yield _as(_scalar(value), mark)

    def _string(self, value: str, mark: str) -> Text:
        quoted = self.quote(str(value))
        return _as(quoted, main_mark(value) if isinstance(value, Text) and value else mark)

    def _row(self, row: Any, mark: str, level: int) -> Iterator[str]:
        if not row:
            yield _as("[]", mark)
            return
        yield _as("[" + self._break(level + 1), mark)
        for at, item in enumerate(row):
            if at:
                yield _as(self.comma + self._break(level + 1), mark)
            yield from self.write(item, mark, level + 1)
        yield _as(self._break(level) + "]", mark)

    def _table(self, table: dict[Any, Any], mark: str, level: int) -> Iterator[str]:
        if not table:
            yield _as("{}", mark)
            return
        yield _as("{" + self._break(level + 1), mark)
        entries = sorted(table.items()) if self.sort_keys else table.items()
        for at, (key, item) in enumerate(entries):
            if at:
                yield _as(self.comma + self._break(level + 1), mark)
            name = key if isinstance(key, str) else _scalar(key)
            yield self._string(name, mark)
            yield _as(self.colon, mark)
            yield from self.write(item, mark, level + 1)
        yield _as(self._break(level) + "}", mark)

    def _break(self, level: int) -> str:
        return "" if self.step is None else "\n" + self.step * level


def _as(text: str, mark: str) -> Text:
    return Text(text, mark * len(text))


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value != value:
            return "NaN"
        return {float("inf"): "Infinity", float("-inf"): "-Infinity"}.get(value) or float.__repr__(value)
    if isinstance(value, Undefined):
        raise value.fail()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
