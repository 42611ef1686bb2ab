"""Variables of a template: a scope within a scope, and macros, which remember the scope they were written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.rendering import Rendering
from orrery.text.jinja.values import Undefined

Closure = Callable[["Frame"], Any]


class Frame:
    """One scope. Loops, macros and blocks open a new one; `if` does not."""

    __slots__ = ("parent", "run", "vars")

    def __init__(self, run: Rendering, parent: Frame | None, vars: dict[str, Any]) -> None:
        self.run, self.parent, self.vars = run, parent, vars

    def inner(self) -> Frame:
        """A scope inside this one."""
        return Frame(self.run, self, {})

    def find(self, name: str) -> Any:
        """The value of a variable in this scope or one around it."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.vars:
                return frame.vars[name]
            frame = frame.parent
        return Undefined(f"'{name}' is undefined")


class Macro:
    """`{% macro name(a, b=1) %}`: a function that gives text."""

    def __init__(
        self,
        name: str,
        params: list[str],
        defaults: list[Closure],
        body: Closure,
        uses: frozenset[str],
        frame: Frame,
    ) -> None:
        self.name, self.params, self.defaults, self.body, self.uses = name, params, defaults, body, uses
        self.frame = frame

    def run(self, run: Rendering, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The text it writes.

        Raises:
            OrreryError: too many macros within each other.
            TypeError: arguments it does not take.
        """
        frame = self.frame.inner()
        self._bind(frame, args, dict(kwargs))
        run.budget.calls += 1
        if run.budget.calls > run.budget.limits.calls:
            raise OrreryError(
                f"the chat template's macro '{self.name}' calls itself too deeply; do not use it"
            )
        text, _ = run.capture(lambda: self.body(frame))
        run.budget.calls -= 1
        return text

    def _bind(self, frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        required = len(self.params) - len(self.defaults)
        if "caller" in self.uses and "caller" not in self.params:
            frame.vars["caller"] = kwargs.pop("caller", Undefined("no caller defined"))
        for at, name in enumerate(self.params):
            if at < len(args):
                frame.vars[name] = args[at]
            elif name in kwargs:
                frame.vars[name] = kwargs.pop(name)
            elif at >= required:
                frame.vars[name] = self.defaults[at - required](frame)
            else:
                frame.vars[name] = Undefined(f"parameter '{name}' was not provided")
        if "kwargs" in self.uses:
            frame.vars["kwargs"] = kwargs
        elif kwargs:
            raise TypeError(f"macro '{self.name}' takes no keyword argument '{next(iter(kwargs))}'")
        if "varargs" in self.uses:
            frame.vars["varargs"] = args[len(self.params) :]
        elif len(args) > len(self.params):
            raise TypeError(f"macro '{self.name}' takes not more than {len(self.params)} arguments")
