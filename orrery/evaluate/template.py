"""Templates of tasks: rendered to text, or, where they are one expression, to a value.

They run in the bounded interpreter of chat templates: a task file is data from a stranger too, and may not run code. A name that the
row does not have is an error here (a chat template would write nothing): write `row.name` for a field that some rows lack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import nodes

from orrery.kit.errors import OrreryError, suggest
from orrery.text.jinja.limits import Limits
from orrery.text.jinja.marked import take_in
from orrery.text.jinja.program import Program
from orrery.text.jinja.syntax import parse

EXPRESSION = re.compile(r"\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)
GIVEN = frozenset(
    ("range", "dict", "namespace", "cycler", "joiner", "loop", "raise_exception", "strftime_now")
)
KEEP_NEWLINE = "{{ '' }}"
"""Behind a template's last newline, which Jinja would drop: where a prompt ends is part of the task."""


@lru_cache(maxsize=512)
def _program(source: str) -> tuple[Program, frozenset[str]]:
    """The program and the names it asks for."""
    whole = source + KEEP_NEWLINE if source.endswith("\n") else source
    try:
        program, tree = Program(whole), parse(whole, Limits())
    except OrreryError as error:
        raise OrreryError(f"the template {_short(source)} cannot be read: {_of_task(error)}") from None
    names = list(tree.find_all(nodes.Name))
    made = {name.name for name in names if name.ctx != "load"} | {m.name for m in tree.find_all(nodes.Macro)}
    return program, frozenset({name.name for name in names} - made - GIVEN)


def check_template(source: str) -> None:
    """
    Raises:
        OrreryError: it is no template.
    """
    _program(source)


def render(source: str, variables: Mapping[str, Any]) -> str:
    """The text of a template for these variables, a row's fields; `row` names all of them together.

    Raises:
        OrreryError: a field it asks for is missing, or it fails on the values.
    """
    if "{" not in source:
        return source
    program, names = _program(source)
    for name in sorted(names - {"row", *variables}):
        have = ", ".join(sorted(map(str, variables)))
        raise OrreryError(
            f"the template {_short(source)} asks for '{name}'; the row has {have}.{suggest(name, map(str, variables))}"
        )
    given = {name: take_in(variables[name], "m") for name in names & variables.keys()}
    if "row" in names:
        given["row"] = take_in(variables, "m")
    try:
        return "".join(program.render(given))
    except OrreryError as error:
        raise OrreryError(f"the template {_short(source)} fails on a row: {_of_task(error)}") from None


def value(source: str, variables: Mapping[str, Any]) -> Any:
    """As `render`, but one lone expression keeps its value (text, numbers, lists and mappings of JSON).

    Raises:
        OrreryError: as `render`.
    """
    lone = EXPRESSION.fullmatch(source.strip())
    if lone is None:
        return render(source, variables)
    return json.loads(render(f"{{{{ ({lone[1]}) | tojson }}}}", variables))


def _short(source: str) -> str:
    return repr(source if len(source) <= 80 else source[:77] + "...")


def _of_task(error: OrreryError) -> str:
    return str(error).replace("the chat template", "the template")
