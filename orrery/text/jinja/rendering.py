"""One rendering of a template: its budget, its output, and what the operators do to plain values.

Attribute access is a lookup in the tables of this file. There is no way from a template to an attribute of a Python object.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, ItemsView, KeysView, Mapping, Sized, ValuesView
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja import filters, predicates, strings
from orrery.text.jinja.format import braces, percent
from orrery.text.jinja.limits import Budget
from orrery.text.jinja.marked import OWN, Text, concat, cut
from orrery.text.jinja.show import show, show_inside
from orrery.text.jinja.values import Cycler, Function, Group, Joiner, Loop, Method, Namespace, Undefined

STRING = strings.METHODS | {
    "format": braces,
    "format_map": lambda run, text, table: braces(run, text, **table),
}
DICT: dict[str, Callable[..., Any]] = {
    "get": lambda run, table, key, default=None: table.get(run.weighed(key), default),
    "items": lambda run, table: table.items(),
    "keys": lambda run, table: table.keys(),
    "values": lambda run, table: table.values(),
    "copy": lambda run, table: run.copy(table),
}
LIST: dict[str, Callable[..., Any]] = {
    "copy": lambda run, row: run.copy(row),
    "count": lambda run, row, value: run.found(row, value, list.count),
    "index": lambda run, row, value: run.found(row, value, list.index),
}
CHANGING = frozenset(  # of dicts and lists
    (
        "clear",
        "pop",
        "popitem",
        "setdefault",
        "update",
        "append",
        "reverse",
        "insert",
        "sort",
        "extend",
        "remove",
    )
)


class Rendering:
    """The state of one run of a template."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.mark = OWN  # of what the template writes now
        self.loops = 0
        self.line = 0
        self.out: list[str] = []

    # --- output

    def emit(self, text: str) -> None:
        """Add to the output."""
        self.budget.grow(len(text))
        self.out.append(
            text if self.mark == OWN or isinstance(text, Text) else Text(text, self.mark * len(text))
        )

    def capture(self, write: Callable[[], Any]) -> tuple[str, Any]:
        """What a function writes, and what it returns."""
        before, self.out = self.out, []
        result = write()
        text, self.out = concat(self.out, self.mark), before
        self.budget.grow(len(text))
        return text, result

    # --- looking inside values

    def attribute(self, value: Any, name: str, item: bool = True) -> Any:
        """`value.name`: a method, else (`item`) the entry of that name."""
        if isinstance(value, Undefined):
            raise value.fail()
        methods = self._methods(value)
        if name in methods:
            return Method(value, methods[name])
        if isinstance(value, Namespace) and name in value.entries:
            return value.entries[name]
        if isinstance(value, Loop):
            return value.entry(name)
        if isinstance(value, Group) and name in ("grouper", "list"):
            return value[name == "list"]
        if isinstance(value, Cycler):
            return _cycler(value, name)
        if isinstance(value, Mapping) and item and name not in CHANGING and name in value:
            return value[name]
        if str(name).startswith("__"):
            raise OrreryError(f"the chat template reaches for Python's internals ({name!r}): do not use it")
        return self._missing(value, name)

    def item(self, value: Any, key: Any) -> Any:
        """`value[key]`: the entry, else the method of that name."""
        if isinstance(value, Undefined):
            raise value.fail()
        if isinstance(value, Mapping):
            try:
                return value[self.weighed(key)]
            except (KeyError, TypeError):
                pass
        elif isinstance(value, str | list | tuple | range) and isinstance(key, int):
            try:
                return (
                    cut(value, slice(key, key + 1 or None))
                    if isinstance(value, str) and value[key]
                    else value[key]
                )
            except IndexError:
                pass
        if isinstance(key, str):
            return self.attribute(value, key, item=False)
        return self._missing(value, key)

    def slice(self, value: Any, part: slice) -> Any:
        """`value[a:b:c]`."""
        if isinstance(value, Undefined):
            raise value.fail()
        if isinstance(value, str):
            self.budget.grow(len(value))
            return cut(value, part)
        if not isinstance(value, list | tuple | range):
            raise TypeError(f"a {type(value).__name__} has no slices")
        self.budget.items(len(value))
        return value[part]

    @staticmethod
    def _methods(value: Any) -> dict[str, Callable[..., Any]]:
        if isinstance(value, str):
            return STRING
        if isinstance(value, dict):
            return DICT
        return LIST if isinstance(value, list | tuple) else {}

    @staticmethod
    def _missing(value: Any, name: Any) -> Undefined:
        return Undefined(f"a value of type {type(value).__name__} has no {str(name)[:60]!r} it may use")

    # --- operators

    def add(self, a: Any, b: Any) -> Any:
        """`a + b`."""
        if isinstance(a, str) and isinstance(b, str):
            if getattr(a, "safe", False) or getattr(b, "safe", False):
                return filters.safe(self, self.join([filters.escape(self, a), filters.escape(self, b)]))
            return self.join([a, b])
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            self.budget.items(len(a) + len(b))
        return a + b

    def join(self, parts: list[Any]) -> str:
        """`a ~ b ~ c`."""
        shown = [part if isinstance(part, str) else show(self, part) for part in parts]
        self.budget.grow(sum(map(len, shown)))
        return concat(shown, self.mark)

    def multiply(self, a: Any, b: Any) -> Any:
        """`a * b`."""
        if isinstance(b, str | list | tuple):
            a, b = b, a
        if isinstance(a, str) and isinstance(b, int):
            self.budget.grow(len(a) * max(b, 0))
            return concat([a] * max(b, 0), self.mark) if len(a) else ""
        if isinstance(a, list | tuple) and isinstance(b, int):
            self.budget.items(len(a) * max(b, 0))
        elif isinstance(a, int) and isinstance(b, int):
            self.budget.number(a.bit_length() + b.bit_length())
        return a * b

    def power(self, a: Any, b: Any) -> Any:
        """`a ** b`."""
        if isinstance(a, int) and isinstance(b, int):
            self.budget.number(abs(b) * a.bit_length())
        return a**b

    def modulo(self, a: Any, b: Any) -> Any:
        """`a % b`."""
        return percent(self, a, b) if isinstance(a, str) else a % b

    def compare(self, compare: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        """`a == b`, `a < b` ..."""
        if compare not in (operator.eq, operator.ne):
            for value in (a, b):
                if isinstance(value, Undefined):
                    raise value.fail()
        if not isinstance(a, str) and not isinstance(b, str):
            self.weigh(a)
            self.weigh(b)
        return compare(a, b)

    def contains(self, where: Any, value: Any) -> bool:
        """`value in where`."""
        if isinstance(where, str) and isinstance(value, Undefined):
            raise value.fail()
        self.weigh(value)
        if isinstance(where, Mapping | str | range | Undefined):
            self.budget.tick(1 + (len(where) >> 8))
            return value in where
        rows = where if isinstance(where, list | tuple) else self.iterate(where)
        self.budget.tick(1 + (len(rows) >> 8))
        if isinstance(value, list | tuple | dict):
            self.weigh(rows)
        return value in rows

    # --- whole values

    def show(self, value: Any) -> str:
        """`str(value)`, marked."""
        return show(self, value)

    def show_inside(self, value: Any) -> str:
        """`repr(value)`, marked."""
        return show_inside(self, value)

    def iterate(self, value: Any) -> list[Any]:
        """The items a loop goes through."""
        if isinstance(value, str):
            self.budget.items(len(value))
            return [cut(value, slice(i, i + 1)) for i in range(len(value))]
        if isinstance(value, Sized):
            self.budget.items(len(value))
            return list(value)  # type: ignore[call-overload]
        out: list[Any] = []
        for item in value:
            out.append(item)
            if len(out) & 63 == 0:
                self.budget.items(64)
            if len(out) > self.budget.limits.items:
                self.budget.items(len(out))
        return out

    def weigh(self, value: Any) -> None:
        """Pay for walking through a value: lists that hold each other many times over cost as often as they are met."""
        todo = [value]
        while todo:
            item = todo.pop()
            if isinstance(item, Namespace):
                item = item.entries
            if isinstance(item, Mapping):
                self.budget.tick(1 + len(item))
                todo += item.values()
            elif isinstance(item, list | tuple | KeysView | ValuesView | ItemsView):
                self.budget.tick(1 + len(item))
                todo += item

    def weighed(self, value: Any) -> Any:
        """The value, paid for."""
        self.weigh(value)
        return value

    def copy(self, value: Any) -> Any:
        """A shallow copy."""
        self.budget.items(len(value))
        return dict(value) if isinstance(value, dict) else value[:]

    def found(self, row: Any, value: Any, how: Callable[[list[Any], Any], int]) -> int:
        """How often or where a value is in a list."""
        self.weigh(row)
        return how(list(row), value)

    def small(self, number: Any) -> int:
        """A width or precision that is not outrageous."""
        if not -1024 <= number <= 1024:
            raise OrreryError(f"the chat template asks for a width of {number}; do not use it")
        return int(number)

    # --- calls

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`function(...)`."""
        self.budget.tick()
        match function:
            case Method():
                return function.run(self, function.value, *args, **kwargs)
            case Function():
                return function.run(self, *args, **kwargs)
            case Loop() if function.again is not None:
                return function.again(args[0], function.depth0 + 1)
            case Joiner():
                used, function.used = function.used, True
                return function.separator if used else ""
            case Undefined():
                raise function.fail()
        run = getattr(function, "run", None)  # a macro
        if run is None:
            raise TypeError(f"a {type(function).__name__} cannot be called")
        return run(self, args, kwargs)

    def filter(self, name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`value|name(...)`."""
        self.budget.tick()
        return filters.find(name)(self, value, *args, **kwargs)

    def test(self, name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """`value is name(...)`."""
        self.budget.tick()
        return bool(predicates.find(name)(self, value, *args, **kwargs))


def _cycler(cycler: Cycler, name: str) -> Any:
    def step(run: Rendering, cycler: Cycler) -> Any:
        at, cycler.at = cycler.at, (cycler.at + 1) % len(cycler.items)
        return cycler.items[at]

    def reset(run: Rendering, cycler: Cycler) -> None:
        cycler.at = 0

    if name == "current":
        return cycler.items[cycler.at]
    known: dict[str, Callable[..., Any]] = {"next": step, "reset": reset}
    return Method(cycler, known[name]) if name in known else Undefined(f"a cycler has no {name!r}")
