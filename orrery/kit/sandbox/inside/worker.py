"""The process in which generated code runs: once through, or as a servant of the tests that run elsewhere."""

from __future__ import annotations

import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from orrery.kit.sandbox.inside.codec import Broken, decode, encode, receive, send

_MISSING = object()


def define(code: str, name: str) -> dict[str, Any]:
    """Run `code` as the module `name`; its names and values."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def run(code: str, function: str | None, arguments: list[Any]) -> Any:
    """Run `code`, as a program or, with `function`, as a module whose function is then called; what it returned."""
    if function is None:
        define(code, "__main__")
        return None
    found = define(code, "solution").get(function, _MISSING)
    if found is _MISSING:
        raise NameError(f"the code defines no {function!r}")
    return found(*arguments)  # type: ignore[operator]


def serve(code: str, requests: int, answers: int) -> None:
    """Run `code`, then do what each request says with its names and values, until there are no more requests.

    Answers are plain values, or numbers of objects kept here. Nothing that arrives says what an answer should be.
    """
    kept: list[Any] = []

    def keep(value: Any) -> list[Any]:
        kept.append(value)
        return ["far", len(kept) - 1]

    names = define(code, "solution")
    deeds = _deeds(names)
    while True:
        try:
            request = receive(requests)
        except Broken:
            os._exit(0)
        try:
            given = [decode(form, kept.__getitem__) for form in request["given"]]
            named = {name: decode(form, kept.__getitem__) for name, form in request["named"].items()}
            before = [encode(value, _unchanged) for value in given]
            answer = {"value": encode(deeds[request["do"]](*given, **named), keep)}
            after = [encode(value, _unchanged) for value in given]
            answer["changed"] = {
                i: encode(given[i], keep) for i, form in enumerate(after) if form != before[i]
            }
        except Exception as error:
            answer = {"raised": [type(error).__name__, str(error)[:1000]]}
        send(answers, answer)


def _unchanged(value: Any) -> list[Any]:
    """Objects kept here need no look: the other side reads them from here each time."""
    return ["far", id(value)]


def _deeds(names: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    def call(function: Any, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return {
        "name": names.__getitem__,
        "call": call,
        "getattr": getattr,
        "setattr": setattr,
        "getitem": operator.getitem,
        "setitem": operator.setitem,
        "delitem": operator.delitem,
        "iter": iter,
        "next": next,
        "len": len,
        "bool": bool,
        "str": str,
        "repr": repr,
        "eq": operator.eq,
    }
