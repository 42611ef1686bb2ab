"""The process in which a test program runs, against code that lives in another jail.

The tests' names for things of the code are stand-ins: calling one sends plain values over and brings plain values back, so
comparisons, arithmetic and the tests' own imports all happen here, where the generated code has never been. Objects that
are no plain values stay there; their stand-ins can be called, read and iterated, but not compared with plain values.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from orrery.kit.sandbox.inside.codec import Broken, decode, encode, receive, send


class Elsewhere(Exception):
    """The code raised an exception of a class of its own."""


class Wire:
    """Asks the code's process to do something, and waits for its answer."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self.lost = False

    def ask(self, do: str, *given: Any, **named: Any) -> Any:
        """The value of `do` over there. Lists, dicts and sets that it changed are changed here too.

        Raises:
            Exception: whatever it raised there: one of Python's own classes, or `Elsewhere`.
            Broken: the process is gone.
        """
        forms = [encode(value, _far) for value in given]
        named_forms = {name: encode(value, _far) for name, value in named.items()}
        try:
            send(self._requests, {"do": do, "given": forms, "named": named_forms})
            answer = receive(self._answers)
        except (Broken, OSError):
            self.lost = True
            raise Broken("the code's process is gone") from None
        if "raised" in answer:
            name, text = answer["raised"]
            raise _exception(name)(text)
        for index, form in answer["changed"].items():
            _change(given[int(index)], self._decode(form))
        return self._decode(answer["value"])

    def _decode(self, form: Any) -> Any:
        return decode(form, lambda number: Far(self, number))


class Far:
    """An object that lives in the code's process."""

    def __init__(self, wire: Wire, number: int) -> None:
        object.__setattr__(self, "_wire", wire)
        object.__setattr__(self, "_number", number)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._wire.ask("call", self, *given, **named)

    def __getattr__(self, name: str) -> Any:
        return self._wire.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._wire.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._wire.ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._wire.ask("setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        self._wire.ask("delitem", self, key)

    def __iter__(self) -> Any:
        return self._wire.ask("iter", self)

    def __next__(self) -> Any:
        return self._wire.ask("next", self)

    def __len__(self) -> int:
        return self._wire.ask("len", self)

    def __bool__(self) -> bool:
        return self._wire.ask("bool", self) is True

    def __str__(self) -> str:
        return self._wire.ask("str", self)

    def __repr__(self) -> str:
        return self._wire.ask("repr", self)

    def __eq__(self, other: object) -> bool:
        """Two objects of the code are equal when it says so; one of them is never equal to a value of the tests."""
        return isinstance(other, Far) and self._wire.ask("eq", self, other) is True

    def __hash__(self) -> int:
        return self._number


def check(code_names: Iterable[str], setup: str, tests: str, requests: int, answers: int) -> None:
    """Run `setup` and `tests`; returning means that they ran to their end.

    Args:
        code_names: what is the code's even where `setup` has something of that name.

    Raises:
        Exception: what the tests or the code raised.
    """
    wire = Wire(requests, answers)
    space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    first, then = ast.parse(setup, "<setup>"), ast.parse(tests, "<tests>")

    def fetch(wanted: set[str], tree: ast.AST) -> None:
        for name in sorted(wanted):
            if name in sys.stdlib_module_names and name not in code_names and used_as_module(tree, name):
                space[name] = importlib.import_module(name)
                continue
            with suppress(KeyError):  # then the program defines it itself, or will say that nobody did
                space[name] = wire.ask("name", name)

    fetch(free_names(first) - bound_names(first) - set(dir(builtins)), first)
    exec(compile(first, "<setup>", "exec", dont_inherit=True), space)
    fetch(free_names(then) - set(space) - set(dir(builtins)) | set(code_names), then)
    exec(compile(then, "<tests>", "exec", dont_inherit=True), space)
    if wire.lost:  # and the tests caught it, as they may when they expect an exception
        raise Broken("the code's process is gone")


def free_names(tree: ast.AST) -> set[str]:
    """Every name that is read somewhere in a program."""
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that a program gives a value somewhere: by assignment, definition or import."""
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=other):
                bound.add(other or name.partition(".")[0])
    return bound


def used_as_module(tree: ast.AST, name: str) -> bool:
    """Whether a name is only ever written before a dot, as in `math.isclose`; never called or passed on."""
    bases = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    return all(id(n) in bases for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name)


def _far(value: Any) -> Any:
    if isinstance(value, Far):
        return ["far", value._number]
    raise TypeError(f"the tests hand over a {type(value).__name__}, which cannot leave their process")


def _exception(name: Any) -> type[Exception]:
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    return found if isinstance(found, type) and issubclass(found, Exception) else Elsewhere


def _change(mine: Any, theirs: Any) -> None:
    """Make a list, dict, set or bytearray of the tests what the code made of its copy."""
    match mine:
        case list() | bytearray() if type(theirs) is type(mine):
            mine[:] = theirs
        case dict() | set() if type(theirs) is type(mine):
            mine.clear()
            mine.update(theirs)
