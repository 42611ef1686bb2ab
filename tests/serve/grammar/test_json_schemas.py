"""Random texts under many schemas, checked by a validator that shares nothing with the grammar library."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from orrery.kit.lm import Grammar
from orrery.serve.grammar.constraint import Constraint
from orrery.text import Tokenizer, TokenizerConfig, train_tokenizer

POINT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
SCHEMAS = [
    {},
    {"type": "object"},
    {"type": "array"},
    {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
    {"type": "object", "minProperties": 1, "maxProperties": 2},
    {"type": "object", "properties": {'é"\n': {"type": "boolean"}}, "required": ['é"\n']},
    {"type": "object", "required": ["a", "b"], "properties": {"b": {"type": "integer"}}},
    {"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "additionalProperties": False},
    {"type": "string", "minLength": 2, "maxLength": 3},
    {"type": "string", "pattern": "^[a-c]{2,4}$"},
    {"type": "string", "pattern": "^\\d+$", "maxLength": 4},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2},
    {"type": "number", "exclusiveMinimum": 0.1, "maximum": 0.3},
    {"type": "number", "multipleOf": 0.25},
    {"type": "integer", "multipleOf": 3, "minimum": 10, "maximum": 50},
    {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    {"type": ["string", "null"], "maxLength": 1},
    {"enum": [1, "a", None, {"b": [1]}]},
    {"const": {"a": 1}},
    {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
    {
        "anyOf": [
            {"type": "integer"},
            {"type": "object", "properties": {"k": {"const": 1}}, "required": ["k"]},
        ]
    },
    {"allOf": [POINT, {"properties": {"a": {"maximum": 5}}}]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}, "type": "object"}}},
]


@cache
def tokenizer() -> Tokenizer:
    return train_tokenizer(['{"name": "x", "age": 12} 2024-01-02'] * 20, TokenizerConfig(vocab_size=300))


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_every_text_is_valid(schema):
    validators = pytest.importorskip(
        "jsonschema_rs", reason="jsonschema-rs checks the texts; it comes with schemathesis"
    )
    validator = validators.validator_for(schema, validate_formats=True)
    vocabulary, ended = tokenizer(), 0
    assert vocabulary.eos_id is not None
    closes = np.array(
        [vocabulary.token_bytes(i)[:1] in (b'"', b"}", b"]") for i in range(vocabulary.vocab_size)]
    )
    start = Constraint.compile(
        Grammar(kind="json_schema", source=json.dumps(schema)),
        vocabulary,
        vocab=vocabulary.vocab_size,
        stop_ids=(vocabulary.eos_id,),
    )
    for seed in range(10):
        c, random, ids = start.clone(), np.random.default_rng(seed), []
        while not c.finished and len(ids) < 120:
            mask = c.mask().numpy()
            ending = mask & closes
            options = np.flatnonzero(ending if ending.any() and random.random() < 0.4 else mask)
            ids.append(int(random.choice(options)))
            c.accept(ids[-1])
        if c.finished:
            ended += 1
            text = vocabulary.decode(ids, special=False)
            assert validator.is_valid(json.loads(text)), text
    assert ended >= 3
