"""Stages of a tokenizer: growth multiplies, tables and templates stay small, patterns end."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.text.gguf_patterns import PRE_TOKENIZERS
from orrery.text.patterns import PATTERNS
from orrery.text.stages import check_stages, takes_too_long

Spec = dict[str, Any]


def replace(old: str, new: str) -> Spec:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def sequence(*stages: Spec) -> Spec:
    return {"type": "Sequence", "normalizers": list(stages)}


def charsmap(*replacements: bytes, size: int = 8) -> Spec:
    data = size.to_bytes(4, "little") + bytes(8) + b"\0".join(replacements) + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    "fine",
    [
        None, replace(" ", "▁"), replace("``", '"'), sequence(replace("a", "bb"), replace("b", "cc"), replace("c", "dd")), charsmap(b"fi", b"x" * 33),
        {"type": "Prepend", "prepend": "▁"}, sequence(*[{"type": "NFC"}] * 100),
    ],
)  # fmt: skip
def test_what_is_fine(fine: Spec | None) -> None:
    check_stages({"normalizer": fine}, set(), "x")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (replace("a", "b" * 9), "inserts 9 characters at once"),
        (sequence(*[replace("a", "aa")] * 4), "more than 8 times longer"),
        (replace("", "x"), "replaces nothing by something"),
        ({"type": "Replace", "pattern": {"Regex": "a|" * 50 + "b"}, "content": "x" * 9}, "inserts 9"),
        (charsmap(b"x" * 10_000), "10,000 bytes in the place of one character"),
        (charsmap(b"x", size=2000), "cut short"),
        ({"type": "Precompiled", "precompiled_charsmap": "!!"}, "not base64"),
        (sequence(*[{"type": "NFC"}] * 5000), "more than 512 stages"),
        ({"type": "Split", "pattern": {"Regex": "a{2000}"}}, "more than 1000 times"),
        ({"type": "Split", "pattern": {"Regex": "a" * 20_001}}, "20,001 characters"),
        ([], "must be an object"),
    ],
)
def test_what_is_refused(wrong: Any, says: str) -> None:
    with pytest.raises(OrreryError, match="'x' is damaged: ") as caught:
        check_stages({"normalizer": wrong}, set(), "x")
    assert says in str(caught.value)


def template(**changes: Any) -> Spec:
    known = {"[X]": {"id": "[X]", "ids": [7], "tokens": ["[X]"]}}
    single = [{"SpecialToken": {"id": "[X]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": known} | changes


def test_templates_name_what_is_there() -> None:
    check_stages({"post_processor": template()}, {7}, "x")
    for wrong, says in (
        (template(), "an id that no token has"),
        (template(special_tokens={}), "undefined special token"),
        (template(special_tokens=[]), "undefined special token"),
        (template(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 65), "at most 64 items"),
        (template(special_tokens={"[X]": {"id": "[X]", "ids": [7] * 65, "tokens": []}}), "makes 65 tokens"),
    ):
        with pytest.raises(OrreryError, match=says):
            check_stages({"post_processor": wrong}, {7} if says != "an id that no token has" else {1}, "x")


def test_patterns_of_published_tokenizers_end() -> None:
    named = {regex for pre in PRE_TOKENIZERS.values() for regex in pre.patterns}
    assert len(named) > 10 and not [regex for regex in {*named, *PATTERNS.values()} if takes_too_long(regex)]


@pytest.mark.parametrize(
    "regex", [r"(?=(a|a)*$)b|a", r"((a|a){1,50})$", r"([^\s]|\w)+$", r"\s*\s*\s*\s*\s*\s*z", "(ab|a|b)+c"]
)
def test_patterns_that_do_not(regex: str) -> None:
    assert takes_too_long(regex)
