"""A Python function as a tool: its JSON schema from type hints and a Google-style docstring.

def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    '''Current weather of a city.

    Args:
        city: Name of the city.
        unit: Degrees (choices: ["C", "F"]).
    '''
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from orrery.kit.errors import OrreryError

_NAMES: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Any: {},
}
_SECTION = re.compile(r"^(Args|Returns|Raises):[ \t]*$", re.M)
_ENTRY = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.I)


def tool_schemas(tools: Any) -> list[Any] | None:
    """Tools as JSON schemas: a dict stays as it is, a function becomes one.

    Raises:
        OrreryError: something that is neither, or a function without docstring, hint or description.
    """
    if tools is None:
        return None
    if isinstance(tools, Mapping | str) or not hasattr(tools, "__iter__"):
        raise OrreryError("tools is a list of JSON schemas (dicts) or functions")
    return [_tool(tool) for tool in tools]


def _tool(tool: Any) -> Any:
    if isinstance(tool, Mapping):
        return tool
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        return function_schema(tool)
    raise OrreryError(f"a tool is a JSON schema (a dict) or a function, not a {type(tool).__name__}")


def function_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """{"type": "function", "function": {"name", "description", "parameters"}} of a function.

    Raises:
        OrreryError: no docstring, or a parameter without a type hint or a description.
    """
    name = function.__name__
    doc = (inspect.getdoc(function) or "").strip()
    if not doc:
        raise OrreryError(f"the tool '{name}' has no docstring; describe it and its arguments (Google style)")
    description, arguments, returned = _read(doc)
    hints = get_type_hints(function)
    properties: dict[str, Any] = {}
    required = []
    for at, (arg, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if arg not in hints:
            if at == 0 and arg in ("self", "cls"):
                continue
            raise OrreryError(f"the argument '{arg}' of the tool '{name}' has no type hint")
        if arg not in arguments:
            raise OrreryError(f"the docstring of the tool '{name}' does not describe the argument '{arg}'")
        properties[arg] = _described(_schema(hints[arg], name), arguments[arg])
        if parameter.default is inspect.Parameter.empty:
            required.append(arg)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    made: dict[str, Any] = {"name": name, "description": description, "parameters": schema}
    if "return" in hints:
        with contextlib.suppress(OrreryError):  # the model never writes it
            made["return"] = _schema(hints["return"], name) | ({"description": returned} if returned else {})
    return {"type": "function", "function": made}


def _read(doc: str) -> tuple[str, dict[str, str], str]:
    """Description, arguments and return value of a docstring."""
    marks = list(_SECTION.finditer(doc))
    ends = [mark.start() for mark in marks] + [len(doc)]
    parts = {mark[1]: doc[mark.end() : end] for mark, end in zip(marks, ends[1:], strict=True)}
    arguments: dict[str, str] = {}
    current, depth = "", -1
    for line in parts.get("Args", "").splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        entry = _ENTRY.match(text)
        if entry and (depth < 0 or indent <= depth):
            current, depth = entry[1], indent
            arguments[current] = entry[2]
        elif text and current:
            arguments[current] = f"{arguments[current]} {text}".strip()
    return doc[: ends[0]].strip(), arguments, parts.get("Returns", "").strip()


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    if choices := _CHOICES.search(text):
        try:
            values = json.loads(choices[1])
        except json.JSONDecodeError:
            raise OrreryError(f"the choices {choices[1]!r} in a tool's docstring are no JSON list") from None
        schema = schema | {"enum": [value.strip() if isinstance(value, str) else value for value in values]}
        text = text[: choices.start()].strip()
    return schema | {"description": text}


def _schema(hint: Any, name: str) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    kind, args = get_origin(hint), get_args(hint)
    if kind is None and isinstance(hint, type) and issubclass(hint, Enum):
        return _enum([member.value for member in hint], name)
    if kind is None and hint in _NAMES:
        return dict(_NAMES[hint])
    if kind is Literal:
        return _enum(list(args), name)
    if kind in (Union, UnionType):
        return _union([_schema(arg, name) for arg in args if arg is not NoneType], NoneType in args)
    if kind is list:
        return {"type": "array", "items": _schema(args[0], name)}
    if kind is tuple and len(args) > 1 and ... not in args:
        return {"type": "array", "prefixItems": [_schema(arg, name) for arg in args]}
    if kind is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], name)}
    raise OrreryError(
        f"the tool '{name}' has the type hint {hint!r}, which has no JSON schema; give the tool as a dict"
    )


def _enum(values: list[Any], name: str) -> dict[str, Any]:
    if not values or any(type(value) not in (int, float, str, bool, NoneType) for value in values):
        raise OrreryError(f"the tool '{name}' lists choices that are no JSON values: {values!r}")
    kinds = list(dict.fromkeys(_NAMES[type(value)]["type"] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}


def _union(schemas: list[dict[str, Any]], nullable: bool) -> dict[str, Any]:
    if len(schemas) == 1:
        made = schemas[0]
    elif all(schema.keys() == {"type"} and isinstance(schema["type"], str) for schema in schemas):
        kinds = sorted({schema["type"] for schema in schemas})
        made = {"type": kinds[0] if len(kinds) == 1 else kinds}
    else:
        made = {"anyOf": schemas}
    return made | ({"nullable": True} if nullable else {})
