from __future__ import annotations

import json

import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.grammar.schema import GrammarLimits, check_strict, checked_schema, response_grammar

POINT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.org/point",
    "type": "object",
    "properties": {"x": {"type": "number"}, "$ref": {"$ref": "#/$defs/name"}},
    "$defs": {"name": {"type": "string", "enum": ["$ref", {"$ref": "http://data.not.a.reference/"}]}},
}


def nested(depth: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_a_schema_keeps_all_but_what_names_it():
    """A property called $ref is a property, and what stands in an enum is data."""
    made = checked_schema(POINT)
    assert made == {key: value for key, value in POINT.items() if key not in ("$schema", "$id")}
    assert checked_schema(json.dumps(POINT)) == made
    assert checked_schema({"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"next": {"$ref": "#"}}}}})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "http://127.0.0.1:9/x.json"}, "'http://127.0.0.1:9/x.json' at #;"),
        ({"$ref": "file:///etc/passwd"}, "only references inside it"),
        ({"$ref": 7}, "refers to '7'"),
        ({"anyOf": [{"items": {"$dynamicRef": "other"}}]}, "at #/anyOf/0/items"),
        ({"properties": {"a": {"$id": "http://x/", "type": "string"}}}, r"'\$id' at #/properties/a"),
        ({"x-guidance": {"lenient": True}}, "'x-guidance' at #,"),
        ({"$schema": "http://127.0.0.1/dialect"}, "dialect 'http://127.0.0.1/dialect'"),
        ("[1]", "must be an object"),
        ("{", "not JSON"),
        ('{"type": "string", "type": "null"}', "given twice"),
        ('{"maximum": NaN}', "no JSON number"),
        ({"maximum": float("inf")}, "cannot be written as JSON"),
        ({"title": "\ud800"}, "half a character"),
        ({"enum": list(range(10_001))}, "10,001 enum; at most 10,000"),
        ({"properties": {f"p{i}": True for i in range(801)}}, "801 properties"),
        ({"patternProperties": {f"^{i}": {} for i in range(33)}}, "33 patternProperties"),
        ({"allOf": [{"enum": list(range(6_000))}] * 2}, "12,000 enum"),
        (nested(49), "nests more than 48"),
        ("[" * 100_000, "nested more than"),
        ({"title": "x" * 140_000}, "at most 131,072"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_schemas_that_are_refused(schema, message):
    with pytest.raises(OrreryError, match=message):
        checked_schema(schema)


def test_limits_can_be_set():
    assert checked_schema(nested(40)) == nested(40)
    with pytest.raises(OrreryError, match="nests more than 5"):
        checked_schema(nested(6), GrammarLimits(depth=5))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"type": "object", "properties": {"a": {}}, "required": ["a"]},
            '# must have "additionalProperties"',
        ),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": False},
            "# does not require 'a'",
        ),
        (
            {"type": "array", "items": {"type": "object", "additionalProperties": True}},
            '#/items must have "additionalProperties"',
        ),
    ],
)
def test_strict_schemas_list_and_close_their_objects(schema, message):
    with pytest.raises(OrreryError, match=message):
        check_strict(schema)
    closed = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
    check_strict({"type": "array", "items": closed})


def test_response_formats():
    assert response_grammar(None) is None
    assert response_grammar({"type": "text"}) is None
    assert response_grammar({"type": "json_object"}) == Grammar(kind="json_object")
    described = {"name": "point", "schema": {"type": "integer"}, "strict": True}
    made = response_grammar({"type": "json_schema", "json_schema": described})
    assert made == Grammar(kind="json_schema", source='{"type": "integer"}')


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ({"type": "xml"}, "'xml'"),
        ({}, "'None'"),
        ({"type": "json_schema"}, "needs"),
        ({"type": "json_schema", "json_schema": {"schema": "{}"}}, "needs"),
        ({"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}, "1 to 64"),
        ({"type": "json_schema", "json_schema": {"name": "a" * 65, "schema": {}}}, "1 to 64"),
        ({"type": "json_schema", "json_schema": {"strict": True, "schema": {"type": "object"}}}, "strict"),
        ({"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/"}}}, "only references inside"),
    ],
)
def test_response_formats_that_are_refused(format, message):
    with pytest.raises(OrreryError, match=message):
        response_grammar(format)
