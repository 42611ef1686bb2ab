"""Jinja's filters (`value|name(...)`) over plain values; each takes (rendering, value, arguments...).

As in Jinja, those that select or map give a generator: true even when nothing comes out of it, and used up by one reading.
Not here: `random`, which would make a prompt a matter of chance, and those that make HTML (urlize, xmlattr, striptags).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby as runs
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja import strings
from orrery.text.jinja.marked import cut
from orrery.text.jinja.show import to_json
from orrery.text.jinja.text_filters import (
    escape,
    indent,
    percent,
    real,
    replace,
    rounded,
    safe,
    title,
    trim,
    truncate,
    urlencode,
    whole,
    wordcount,
    wordwrap,
)
from orrery.text.jinja.values import Group, Undefined


def join(run: Any, value: Any, d: Any = "", attribute: Any = None) -> str:
    """One text, with `d` between the items."""
    items = run.iterate(value)
    if attribute is not None:
        items = [_path(run, item, attribute) for item in items]
    return strings.join(run, run.show(d), [run.show(item) for item in items])


def default(run: Any, value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """The default where a value is missing."""
    return default_value if isinstance(value, Undefined) or (boolean and not value) else value


def first(run: Any, value: Any) -> Any:
    """The first item."""
    if isinstance(value, str):
        return cut(value, slice(0, 1)) if value else Undefined("there is no first item")
    return next(iter(value), Undefined("there is no first item"))


def last(run: Any, value: Any) -> Any:
    """The last item."""
    if isinstance(value, str):
        return cut(value, slice(-1, None)) if value else Undefined("there is no last item")
    return next(iter(reversed(value)), Undefined("there is no last item"))


def reverse(run: Any, value: Any) -> Any:
    """The other way round."""
    if isinstance(value, str):
        run.budget.grow(len(value))
        return cut(value, slice(None, None, -1))
    try:
        return reversed(value)
    except TypeError:
        return run.iterate(value)[::-1]


def items(run: Any, value: Any) -> Iterator[Any]:
    """Pairs of a mapping."""
    if isinstance(value, Undefined):
        return
    if not isinstance(value, Mapping):
        raise TypeError("only a mapping has items")
    yield from value.items()


def dictsort(
    run: Any, value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[Any]:
    """Pairs of a mapping in order."""
    at = ("key", "value").index(by)
    run.weigh(value)
    return sorted(value.items(), key=lambda item: _fold(item[at], case_sensitive), reverse=reverse)


def sort(
    run: Any, value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    """A list in order, of values or of their attributes."""
    rows = run.iterate(value)
    run.weigh(rows)
    run.budget.tick(8 * len(rows))
    paths = (
        [None] if attribute is None else attribute.split(",") if isinstance(attribute, str) else [attribute]
    )
    keys = [[_fold(_path(run, item, path), case_sensitive) for path in paths] for item in rows]
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: keys[i], reverse=reverse)]


def unique(run: Any, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Iterator[Any]:
    """Each item once."""
    seen = set()
    for item in run.iterate(value):
        key = _fold(_path(run, item, attribute), case_sensitive)
        run.weigh(key)
        if key not in seen:
            seen.add(key)
            yield item


def _most(choose: Callable[..., Any]) -> Callable[..., Any]:
    def filter(run: Any, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
        rows = run.iterate(value)
        run.weigh(rows)
        key = lambda item: _fold(_path(run, item, attribute), case_sensitive)  # noqa: E731
        return choose(rows, key=key) if rows else Undefined("there is no item to choose")

    return filter


def total(run: Any, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    """The sum, of values or of their attributes."""
    for item in run.iterate(value):
        start = run.add(start, _path(run, item, attribute))
    return start


def group_by(
    run: Any, value: Any, attribute: Any, default: Any = None, case_sensitive: bool = False
) -> list[Group]:
    """Items by an attribute's value, in its order."""
    rows = run.iterate(value)
    run.weigh(rows)

    def at(item: Any) -> Any:
        found = _path(run, item, attribute)
        return default if default is not None and isinstance(found, Undefined) else found

    key = lambda item: _fold(at(item), case_sensitive)  # noqa: E731
    groups = [list(group) for _, group in runs(sorted(rows, key=key), key=key)]
    return [Group((at(group[0]), group)) for group in groups]


def batch(run: Any, value: Any, linecount: int, fill_with: Any = None) -> Iterator[list[Any]]:
    """Rows of so many items."""
    rows = run.iterate(value)
    for start in range(0, len(rows), linecount):
        row = rows[start : start + linecount]
        if fill_with is not None and len(row) < linecount:
            run.budget.items(linecount)
            row += [fill_with] * (linecount - len(row))
        yield row


def slices(run: Any, value: Any, slices: int, fill_with: Any = None) -> Iterator[list[Any]]:
    """So many columns of items."""
    rows = run.iterate(value)
    run.budget.items(slices)
    size, longer = divmod(len(rows), slices)
    at = 0
    for number in range(slices):
        row = rows[at : at + size + (number < longer)]
        at += len(row)
        yield [*row, fill_with] if fill_with is not None and number >= longer else row


# --- filters that take filters, tests and paths


def mapped(run: Any, value: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """An attribute of each item, or a filter's result."""
    if not value:  # None too
        return
    if not args and "attribute" in kwargs:
        for item in run.iterate(value):
            found = _path(run, item, kwargs["attribute"])
            missing = kwargs.get("default") is not None and isinstance(found, Undefined)
            yield kwargs["default"] if missing else found
        return
    for item in run.iterate(value):
        yield run.filter(args[0], item, args[1:], kwargs)


def _chosen(wanted: bool, by_attribute: bool) -> Callable[..., Iterator[Any]]:
    def filter(run: Any, value: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        rest = args[by_attribute:]
        for item in run.iterate(value) if value else ():  # None too
            looked = _path(run, item, args[0]) if by_attribute else item
            if bool(run.test(rest[0], looked, rest[1:], kwargs) if rest else looked) == wanted:
                yield item

    return filter


def _path(run: Any, item: Any, path: Any) -> Any:
    """Follow a dotted path of keys and indices."""
    if path is None:
        return item
    for part in path.split(".") if isinstance(path, str) else [path]:
        item = run.item(item, int(part) if isinstance(part, str) and part.isdigit() else part)
    return item


def _fold(value: Any, case_sensitive: bool) -> Any:
    return str.lower(value) if isinstance(value, str) and not case_sensitive else value


def _method(name: str) -> Callable[..., Any]:
    return lambda run, value, *args, **kwargs: strings.METHODS[name](run, run.show(value), *args, **kwargs)


FILTERS: dict[str, Callable[..., Any]] = {
    "abs": lambda run, value: abs(value),
    "attr": lambda run, value, name: run.attribute(value, name, item=False),
    "batch": batch,
    "capitalize": _method("capitalize"),
    "center": lambda run, value, width=80: strings.center(run, run.show(value), width),
    "count": lambda run, value: len(value),
    "d": default,
    "default": default,
    "dictsort": dictsort,
    "e": escape,
    "escape": escape,
    "first": first,
    "float": real,
    "forceescape": lambda run, value: escape(run, str(run.show(value))),
    "format": percent,
    "groupby": group_by,
    "indent": indent,
    "int": whole,
    "items": items,
    "join": join,
    "last": last,
    "length": lambda run, value: len(value),
    "list": lambda run, value: run.iterate(value),
    "lower": _method("lower"),
    "map": mapped,
    "max": _most(max),
    "min": _most(min),
    "reject": _chosen(False, False),
    "rejectattr": _chosen(False, True),
    "replace": replace,
    "reverse": reverse,
    "round": rounded,
    "safe": safe,
    "select": _chosen(True, False),
    "selectattr": _chosen(True, True),
    "slice": slices,
    "sort": sort,
    "string": lambda run, value: run.show(value),
    "sum": total,
    "title": title,
    "tojson": to_json,
    "trim": trim,
    "truncate": truncate,
    "unique": unique,
    "upper": _method("upper"),
    "urlencode": urlencode,
    "wordcount": wordcount,
    "wordwrap": wordwrap,
}


def find(name: str) -> Callable[..., Any]:
    """The filter of a name.

    Raises:
        OrreryError: there is none.
    """
    if name not in FILTERS:
        raise OrreryError(
            f"the chat template uses the filter {name[:60]!r}, which chat templates do not have"
        )
    return FILTERS[name]
