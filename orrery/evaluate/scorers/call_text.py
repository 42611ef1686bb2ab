"""Function calls read out of a model's text: in a chat format's own marks, as JSON, or as Python calls. Nothing is ever run.

<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>      and the other marks that `text.answer` knows
[{"name": "f", "arguments": {"a": 1}}]      {"f": {"a": 1}}      also in a code fence
[math.f(a=1, b=[2, 3]), g(c="x")]           f(a=1)
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

from orrery.text.answer import parse_answer

MAX_CHARACTERS = 20_000
POSITIONAL = "<by position>"
_FENCE = re.compile(r"```(.*?)```", re.S)
_LANGUAGE = re.compile(r"\s*(?:json|python|py|tool_code|tool_call)?\s+")
_CALL = re.compile(r"[A-Za-z_][\w.]*\s*\(")
_TRIES = re.compile(r"<[|｜]?\w*tool|\[tool|<function|\[?\s*\{|\[\s*[a-z_][\w.]*\(", re.I)
_NAMES = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Call:
    """A call by name with arguments by name."""

    name: str
    arguments: dict[str, Any]


def read_calls(text: str) -> list[Call] | None:
    """The calls an answer makes, in order; an empty list where it makes none.

    None: the answer tries to call (it has a call's mark, or is JSON or code from its first character) and cannot be read.
    Prose with a bracket in it is no call.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return None
    message = parse_answer(text, template=text)  # every mark the text has is looked for
    if made := message.get("tool_calls"):
        return (
            [
                Call(call["function"]["name"], arguments)
                for call in made
                if isinstance(arguments := call["function"]["arguments"], dict)
            ]
            if all(isinstance(call["function"]["arguments"], dict) for call in made)
            else None
        )
    said = message["content"].strip() or text
    blocks = [_LANGUAGE.sub("", block, count=1).strip() for block in _FENCE.findall(said) if block.strip()]
    for body in [*blocks, said]:
        calls = _json_calls(body)
        if calls is None:
            calls = _python_calls(body)
        if calls:
            return calls
    tries = _TRIES.match(said) is not None or _CALL.match(said) is not None
    return None if tries else []


def _json_calls(text: str) -> list[Call] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    calls = [_one(item) for item in (value if isinstance(value, list) else [value])]
    return None if None in calls else [call for call in calls if call is not None]


def _one(item: Any) -> Call | None:
    """{"name", "arguments" | "parameters"}, {"function": {...}}, or {"f": {arguments}}."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        return _one(item["function"])
    if isinstance(item.get("name"), str):
        arguments = item.get("arguments", item.get("parameters", {}))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        return Call(item["name"], arguments) if isinstance(arguments, dict) else None
    if len(item) == 1 and isinstance(next(iter(item.values())), dict):
        name, arguments = next(iter(item.items()))
        return Call(name, arguments)
    return None


def _python_calls(text: str) -> list[Call] | None:
    """[f(a=1), g(b=2)], f(a=1), or one call a line."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes: list[ast.expr] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            return None
        value = statement.value
        nodes.extend(value.elts if isinstance(value, ast.List | ast.Tuple) else [value])
    calls = [_call(node) for node in nodes]
    return None if None in calls else [call for call in calls if call is not None]


def _call(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or any(word.arg is None for word in node.keywords):
        return None
    name = _dotted(node.func)
    if name is None:
        return None
    arguments = {str(word.arg): _literal(word.value) for word in node.keywords}
    if node.args:
        arguments[POSITIONAL] = [_literal(value) for value in node.args]
    return Call(name, arguments)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def _literal(node: ast.expr) -> Any:
    """The value of a literal; what is computed (1 + 2, datetime(...)) stays the text it was written as."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name() if node.id.lower() in _NAMES:
            return _NAMES[node.id.lower()]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List():
            return [_literal(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_literal(item) for item in node.elts)
        case ast.Dict():
            return {
                str(_literal(key)) if key else "**": _literal(item)
                for key, item in zip(node.keys, node.values, strict=True)
            }
    return ast.unparse(node)
