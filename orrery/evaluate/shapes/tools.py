"""Questions that offer functions to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}


def bfcl(row: Mapping[str, Any]) -> dict[str, Any]:
    """`tools`: the leaderboard's functions as chat formats expect them, with JSON schema's names of types.

    `function` stays as published, for the match of types is made by its names.
    """
    tools = [
        {"type": "function", "function": {**function, "parameters": _schema(function["parameters"])}}
        for function in row["function"]
    ]
    return {**row, "tools": tools}


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(schema)
    if made.get("type") in _TYPES:
        kind = _TYPES[made.pop("type")]
        made = {"type": kind, **made} if kind else made
    if isinstance(made.get("properties"), Mapping):
        made["properties"] = {name: _schema(value) for name, value in made["properties"].items()}
    if isinstance(made.get("items"), Mapping):
        made["items"] = _schema(made["items"])
    return made
