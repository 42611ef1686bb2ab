"""A template, read and ready to render, with the functions and variables that transformers gives to chat templates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.text.jinja.frame import Frame
from orrery.text.jinja.limits import Budget, Limits
from orrery.text.jinja.marked import Text, characters, concat, marks_of
from orrery.text.jinja.rendering import Rendering
from orrery.text.jinja.statements import block
from orrery.text.jinja.syntax import parse
from orrery.text.jinja.values import Cycler, Function, Joiner, Namespace

Now = str | datetime.date | Callable[[str], str] | None
"""What `strftime_now` tells: a time, a text given for every format, a function of the format, or the clock."""


class Refusal(OrreryError):
    """The template itself refuses the conversation (`raise_exception`)."""


class Program:
    """One template; renders any number of conversations."""

    def __init__(self, source: str, limits: Limits | None = None) -> None:
        """
        Raises:
            OrreryError: it is no template, too large, or reaches outside itself.
        """
        self.source = source
        self.limits = limits or Limits()
        try:
            self._body = block(parse(source, self.limits).body)
        except RecursionError:
            raise OrreryError("the chat template nests its expressions too deeply") from None

    def render(self, variables: Mapping[str, Any], *, now: Now = None) -> Text:
        """The text and its marks; `variables` hold values of `marked.take_in` only.

        Raises:
            Refusal: the template raised an exception of its own, with its words.
            OrreryError: the template fails on these values, or goes beyond its limits.
        """
        given = characters(list(variables.values()))
        run = Rendering(Budget(self.limits, given))
        frame = Frame(run, Frame(run, None, _functions(now)), dict(variables))
        try:
            self._body(frame)
        except OrreryError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise OrreryError(
                f"the chat template fails in line {run.line}: {type(error).__name__}: {str(error)[:200]}"
            ) from None
        except (RecursionError, MemoryError):
            raise OrreryError(f"the chat template goes too deep in line {run.line}; do not use it") from None
        text = concat(run.out, "\0")
        most = self.limits.output + 8 * (given + len(self.source))
        if len(text) > most:
            raise OrreryError(
                f"the chat template writes {len(text)} characters; {most} are allowed for this conversation"
            )
        return Text(text, marks_of(text, "\0"))


def _functions(now: Now) -> dict[str, Any]:
    def strftime_now(run: Rendering, format: str) -> str:
        if len(format) > 200 or re.search(r"%[-_0^#]*\d", format):
            raise OrreryError("the chat template asks for a date of outrageous width; do not use it")
        if isinstance(now, str):
            return now
        if callable(now):
            return now(str(format))
        return (now or datetime.datetime.now()).strftime(str(format))

    def raise_exception(run: Rendering, message: Any = "") -> Any:
        raise Refusal(f"the chat template refuses this conversation: {str(run.show(message))[:2000]}")

    def spread(run: Rendering, *bounds: int) -> range:
        numbers = range(*bounds)
        run.budget.items(len(numbers))
        return numbers

    def table(run: Rendering, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        run.weigh(args)
        made = dict(*args, **kwargs)
        run.budget.items(len(made))
        return made

    return {
        "strftime_now": Function(strftime_now),
        "raise_exception": Function(raise_exception),
        "range": Function(spread),
        "dict": Function(table),
        "namespace": Function(lambda run, *args, **kwargs: Namespace(table(run, *args, **kwargs))),
        "cycler": Function(lambda run, *items: Cycler(items)),
        "joiner": Function(lambda run, sep=", ": Joiner(sep)),
    }
