"""Jinja's tests (`value is name`); each takes (rendering, value, arguments...) and gives a bool."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.filters import FILTERS
from orrery.text.jinja.marked import Text
from orrery.text.jinja.values import Cycler, Joiner, Undefined


def _iterable(run: Any, value: Any) -> bool:
    return hasattr(type(value), "__iter__")


def _sequence(run: Any, value: Any) -> bool:
    return isinstance(value, str | list | tuple | range | Mapping | Undefined)


def _compared(compare: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda run, value, other: run.compare(compare, value, other)


TESTS: dict[str, Callable[..., Any]] = {
    "boolean": lambda run, value: isinstance(value, bool),
    "callable": lambda run, value: (
        callable(getattr(value, "run", None)) or isinstance(value, Cycler | Joiner)
    ),
    "defined": lambda run, value: not isinstance(value, Undefined),
    "divisibleby": lambda run, value, num: value % num == 0,
    "escaped": lambda run, value: isinstance(value, Text) and value.safe,
    "even": lambda run, value: value % 2 == 0,
    "false": lambda run, value: value is False,
    "filter": lambda run, value: value in FILTERS,
    "float": lambda run, value: isinstance(value, float),
    "in": lambda run, value, seq: run.contains(seq, value),
    "integer": lambda run, value: isinstance(value, int) and not isinstance(value, bool),
    "iterable": _iterable,
    "lower": lambda run, value: str(run.show(value)).islower(),
    "mapping": lambda run, value: isinstance(value, Mapping),
    "none": lambda run, value: value is None,
    "number": lambda run, value: isinstance(value, int | float),
    "odd": lambda run, value: value % 2 == 1,
    "sameas": lambda run, value, other: value is other,
    "sequence": _sequence,
    "string": lambda run, value: isinstance(value, str),
    "test": lambda run, value: value in TESTS,
    "true": lambda run, value: value is True,
    "undefined": lambda run, value: isinstance(value, Undefined),
    "upper": lambda run, value: str(run.show(value)).isupper(),
}
TESTS |= {
    name: _compared(compare)
    for names, compare in (
        ("== eq equalto", operator.eq),
        ("!= ne", operator.ne),
        ("> gt greaterthan", operator.gt),
        (">= ge", operator.ge),
        ("< lt lessthan", operator.lt),
        ("<= le", operator.le),
    )
    for name in names.split()
}


def find(name: str) -> Callable[..., Any]:
    """The test of a name.

    Raises:
        OrreryError: there is none.
    """
    if name not in TESTS:
        raise OrreryError(f"the chat template uses the test {name[:60]!r}, which chat templates do not have")
    return TESTS[name]
