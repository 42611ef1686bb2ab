"""JSON schemas from outside, checked before anything is built of them.

A schema is a program from a stranger: it may nest without end, refer to another host, or be so large that compiling it holds
everybody up. What passes here is of bounded size and refers to itself only. What a keyword means, and whether it can be held to, is the
grammar library's to say: it refuses keywords that it cannot enforce, and so does this package.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.lm import Grammar

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a function or a schema may be called, as in the OpenAI API."""

_ONE = ("additionalProperties", "items", "additionalItems", "unevaluatedProperties", "unevaluatedItems", "not", "if", "then", "else", "contains", "propertyNames")  # fmt: skip
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


@dataclass(frozen=True, kw_only=True)
class GrammarLimits:
    """What a grammar from outside may cost.

    Attributes:
        source_bytes: of its source, UTF-8. depth: of nesting in a schema.
        properties, patterns, values: in all objects of a schema together, and in all its enums, or a list of choices.
        compile_fuel: steps of building the automaton (about 50,000 a millisecond). symbols: of the compiled grammar.
        step_fuel, step_items: of finding the tokens allowed next. row_items: readings of a text kept at a time.
        states: of the automaton, 1 to 2 kB each, so 64 MiB at most.
    """

    source_bytes: int = 128 << 10
    depth: int = 48
    properties: int = 800
    patterns: int = 32
    values: int = 10_000
    compile_fuel: int = 1_000_000
    symbols: int = 200_000
    step_fuel: int = 200_000
    step_items: int = 20_000
    row_items: int = 5_000
    states: int = 32_000


def checked_schema(
    schema: str | Mapping[str, Any] | bool, limits: GrammarLimits | None = None
) -> dict[str, Any]:
    """A schema within the limits, as a dict without the keys that name it (`$schema`, `$id`) or steer the library.

    Raises:
        OrreryError: no JSON object, too large or nested too deep, a reference to anything outside it, or a `$schema` that is
            not JSON Schema's.
    """
    limits = limits or GrammarLimits()
    text = schema if isinstance(schema, str) else _dumped(schema)
    data = _bytes(text)
    if len(data) > limits.source_bytes:
        raise OrreryError(
            f"the JSON schema has {len(data):,} bytes; at most {limits.source_bytes:,} are taken, so make it smaller"
        )
    try:
        made = parse_json(data, max_depth=2 * limits.depth + 4, max_values=limits.source_bytes)
    except JsonFault as error:
        raise OrreryError(f"the JSON schema is not JSON: {error}") from None
    if not isinstance(made, dict):
        raise OrreryError('the JSON schema must be an object, for example {"type": "object"}')
    draft = made.get("$schema", "https://json-schema.org/")
    if not isinstance(draft, str) or not re.match(r"https?://json-schema\.org/", draft):
        raise OrreryError(f"the JSON schema names the dialect {str(draft)[:80]!r}; leave $schema out")
    made = {key: value for key, value in made.items() if key not in ("$schema", "$id")}
    counts = Counter[str]()
    for path, node, depth in _nodes(made):
        _check_node(path, node, depth, limits)
        counts.update({key: len(value) for key, value in node.items() if isinstance(value, dict | list)})
    most = {"properties": limits.properties, "patternProperties": limits.patterns, "enum": limits.values}
    for key, limit in most.items():
        if counts[key] > limit:
            raise OrreryError(f"the JSON schema lists {counts[key]:,} {key}; at most {limit:,} are taken")
    return made


def check_strict(schema: Mapping[str, Any]) -> None:
    """Hold a schema to the rules of `"strict": true`: every object lists all its properties as required, and allows no others.

    Raises:
        OrreryError: names the object that breaks them.
    """
    for path, node, _ in _nodes(schema):
        properties = node.get("properties")
        if node.get("type") != "object" and properties is None:
            continue
        if node.get("additionalProperties") is not False:
            raise OrreryError(
                f'strict JSON schema: {path} must have "additionalProperties": false; add it, or set strict to false'
            )
        missing = sorted({*(properties or {})} - {*(node.get("required") or [])})
        if missing:
            raise OrreryError(
                f'strict JSON schema: {path} does not require {missing[0]!r}; list every property in "required" '
                '(one that may be absent gets the type ["...", "null"]), or set strict to false'
            )


def response_grammar(
    response_format: Mapping[str, Any] | None, limits: GrammarLimits | None = None
) -> Grammar | None:
    """The grammar of an OpenAI `response_format`: {"type": "text" | "json_object" | "json_schema", "json_schema": {"name",
    "schema", "strict"}}; None where the text is free.

    Raises:
        OrreryError: an unknown type, a malformed description, or a schema that `checked_schema` or `check_strict` refuses.
    """
    if response_format is None:
        return None
    match response_format.get("type"):
        case "text":
            return None
        case "json_object":
            return Grammar(kind="json_object")
        case "json_schema":
            return _schema_grammar(response_format.get("json_schema"), limits)
        case kind:
            raise OrreryError(
                f"response_format has the type {str(kind)[:80]!r}; it is 'text', 'json_object' or 'json_schema'"
            )


def _schema_grammar(described: Any, limits: GrammarLimits | None) -> Grammar:
    if not isinstance(described, Mapping) or not isinstance(described.get("schema"), Mapping):
        raise OrreryError(
            'response_format "json_schema" needs {"json_schema": {"name": ..., "schema": {...}}}'
        )
    name = described.get("name", "schema")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise OrreryError("the name of a JSON schema has 1 to 64 of the characters a-z, A-Z, 0-9, _ and -")
    schema = checked_schema(described["schema"], limits)
    if described.get("strict"):
        check_strict(schema)
    return Grammar(kind="json_schema", source=json.dumps(schema, ensure_ascii=False))


def _check_node(path: str, node: Mapping[str, Any], depth: int, limits: GrammarLimits) -> None:
    if depth > limits.depth:
        raise OrreryError(
            f"the JSON schema nests more than {limits.depth} deep; make it flatter, or use $defs"
        )
    for key in _REFERENCES:
        if key in node and not (isinstance(node[key], str) and node[key].startswith("#")):
            raise OrreryError(
                f"the JSON schema refers to {str(node[key])[:80]!r} at {path}; only references inside it ('#/$defs/...') "
                "are followed"
            )
    for key in ("$id", "$schema", "x-guidance"):
        if key in node:
            raise OrreryError(
                f"the JSON schema has {key!r} at {path}, which is not taken there; leave it out"
            )


def _nodes(schema: Any, path: str = "#", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any], int]]:
    """(path, schema, depth) of a schema and of those in it; names of properties and values of enums are data, not schemas."""
    waiting = [(path, schema, depth)]
    while waiting:
        path, node, depth = waiting.pop()
        if not isinstance(node, Mapping):
            continue
        yield path, node, depth
        for key, value in node.items():
            if key in _NAMED and isinstance(value, Mapping):
                waiting += [(f"{path}/{key}/{name[:40]}", inner, depth + 1) for name, inner in value.items()]
            elif key in _LIST and isinstance(value, list):
                waiting += [(f"{path}/{key}/{at}", inner, depth + 1) for at, inner in enumerate(value)]
            elif key in _ONE:
                waiting.append((f"{path}/{key}", value, depth + 1))


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OrreryError(f"the JSON schema cannot be written as JSON: {error}") from None


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise OrreryError("the source of the grammar holds half a character (a lone surrogate)") from None
