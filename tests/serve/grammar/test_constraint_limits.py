"""Grammars that are refused, and grammars that cost too much."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.grammar.schema import GrammarLimits
from tests.serve.grammar.cases import constraint, regex, trained, walk


def test_a_wordpiece_tokenizer_is_refused():
    with pytest.raises(OrreryError, match="WordPiece"):
        Constraint.compile(regex("a"), trained("wordpiece"), vocab=400, stop_ids=())


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (regex("(?=a)b"), "regular expression cannot be held to"),
        (regex("(a"), "regular expression cannot be held to"),
        (regex("x" * 200_000), "over 131,072 bytes"),
        (Grammar(kind="choice", source="[]"), "JSON list of texts"),
        (Grammar(kind="choice", source='["a", 1]'), "JSON list of texts"),
        (Grammar(kind="choice", source="["), "not JSON"),
        (Grammar(kind="choice", source=json.dumps([str(i) for i in range(10_001)])), "10,001 choices"),
        (Grammar(kind="lark", source="start: nothing"), "grammar cannot be held to"),
        (Grammar(kind="lark", source='%llguidance {}\nstart: "a"'), "%llguidance"),
        (Grammar(kind="lark", source='start: %json {"$ref": "http://127.0.0.1:9/x"}'), "cannot be held to"),
        (Grammar(kind="json_schema", source='{"not": {"type": "string"}}'), 'Unimplemented keys: ."not"'),
        (Grammar(kind="json_schema", source='{"type": 5}'), "type must be"),
        (Grammar(kind="json_schema", source='{"enum": []}'), "Unsatisfiable"),
        (Grammar(kind="json_schema", source='{"$ref": "#"}'), "no text matches this JSON schema"),
    ],
    ids=lambda value: value.kind if isinstance(value, Grammar) else None,
)
def test_grammars_that_are_refused(grammar, message):
    with pytest.raises(OrreryError, match=message):
        constraint(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        regex("((a{0,1000}){0,1000}){0,1000}"),
        regex("(a+)+$"),
        regex("[a-z]{0,100000}b"),
        Grammar(kind="lark", source="start: a{0,1000}\na: b{0,1000}\nb: c{0,1000}\nc: /x/ | /y/ c"),
        Grammar(kind="lark", source='start: a{1000000000}\na: "x"'),
        Grammar(kind="lark", source='start: s\ns: s s s | s s | "a" | "a" "a"'),
    ],
    ids=str,
)
def test_costly_grammars_go_on_or_fail_alone(grammar):
    """Each step has a bound; beyond it this text fails, and the next grammar is as well as ever."""
    c = constraint(grammar)
    random = np.random.default_rng(0)
    try:
        walk(c, lambda n: int(random.integers(n)), limit=40)
    except OrreryError as error:
        assert "too costly" in str(error)
    assert constraint(regex("a")).accepts(trained().encode("a")) == 1


def test_limits_are_settings():
    small = GrammarLimits(source_bytes=10)
    assert constraint(regex("a{1,9}"), limits=small).accepts(trained().encode("aaa")) == len(
        trained().encode("aaa")
    )
    with pytest.raises(OrreryError, match="over 10 bytes"):
        constraint(regex("a" * 11), limits=small)
