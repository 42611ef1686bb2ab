"""`"%s" % x`, `"%s"|format(x)` and `"{}".format(x)`, piece by piece: marks stay, widths are bounded, no attribute is reachable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.marked import concat, cut, like
from orrery.text.jinja.values import Undefined

_PERCENT = re.compile(
    r"%(?:\((?P<key>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d+))?[hlL]?(?P<type>.)",
    re.S,
)
_FIELD = re.compile(r"([^.\[\]]*)((?:\.[^.\[\]]+|\[[^\]]+\])*)")
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\]]+)\]")


def percent(run: Any, text: str, args: Any) -> str:
    """The % operator.

    Raises:
        OrreryError: a width or precision beyond the limits.
        TypeError, ValueError, KeyError: as Python's own.
    """
    values = args if isinstance(args, tuple) else (args,)
    table = args if isinstance(args, Mapping) else None
    parts: list[str] = []
    at = used = 0
    while (start := text.find("%", at)) >= 0:
        parts.append(cut(text, slice(at, start)))
        spec = _PERCENT.match(text, start)
        if spec is None:
            raise ValueError("incomplete format")
        at = spec.end()
        if spec["type"] == "%":
            parts.append("%")
            continue
        if "*" in (spec["width"], spec["precision"]):
            raise OrreryError("the chat template takes the width of a format from a value; do not use it")
        _bounded(run, spec["width"], spec["precision"])
        if spec["key"] is not None:
            if table is None:
                raise TypeError("format requires a mapping")
            value = table[spec["key"]]
        elif used < len(values):
            value, used = values[used], used + 1
        else:
            raise TypeError("not enough arguments for format string")
        parts.append(_one_percent(run, spec, value))
    if used < len(values) and table is None:
        raise TypeError("not all arguments converted during string formatting")
    parts.append(cut(text, slice(at, None)))
    run.budget.grow(sum(map(len, parts)))
    return concat(parts, run.mark)


def _one_percent(run: Any, spec: re.Match[str], value: Any) -> str:
    kind = spec["type"]
    form = f"%{spec['flags']}{spec['width'] or ''}{'' if spec['precision'] is None else '.' + spec['precision']}{kind}"
    if kind in "sr":
        shown = run.show(value) if kind == "s" else run.show_inside(value)
        return shown if form == f"%{kind}" else like(shown, form.replace("r", "s") % str(shown))
    if isinstance(value, Undefined):
        raise value.fail()
    return form % value


def braces(run: Any, text: str, *args: Any, **kwargs: Any) -> str:
    """str.format: fields by number or name, with items and attributes as in the template itself.

    Raises:
        OrreryError: a private name, or a width or precision beyond the limits.
    """
    parts: list[str] = []
    automatic = 0
    for literal, name, spec, conversion in Formatter().parse(str(text)):
        parts.append(literal)
        if name is None:
            continue
        match = _FIELD.fullmatch(name)
        if match is None:
            raise ValueError(f"the format field {name!r} is malformed")
        first, rest = match.groups()
        if not first:
            first, automatic = str(automatic), automatic + 1
        value = args[int(first)] if first.isdigit() else kwargs[first]
        for attribute, item in _STEP.findall(rest):
            if attribute:
                value = run.attribute(value, attribute)
            else:
                value = run.item(value, int(item) if item.isdigit() else item)
        if "{" in (spec or ""):
            raise OrreryError("the chat template takes the width of a format from a value; do not use it")
        _bounded(run, *re.findall(r"\d+", spec or ""))
        if conversion is not None or not spec or isinstance(value, str):
            shown = run.show_inside(value) if conversion in ("r", "a") else run.show(value)
            parts.append(like(shown, format(str(shown), spec)) if spec else shown)
        else:
            parts.append(format(value, spec))
    run.budget.grow(sum(map(len, parts)))
    return concat(parts, run.mark)


def _bounded(run: Any, *numbers: str | None) -> None:
    for number in numbers:
        if number and (len(number) > 5 or int(number) > run.budget.limits.digits):
            raise OrreryError(
                f"the chat template formats a value {number[:12]} characters wide; do not use it"
            )
