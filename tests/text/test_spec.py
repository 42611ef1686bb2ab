"""Damaged, hostile and merely odd tokenizer files: refused in one sentence that names the file, or read and safe."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.text import Tokenizer
from orrery.text.patterns import PATTERNS, nested_repeat

Spec = dict[str, Any]
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def small() -> Spec:
    """A whole tokenizer of three tokens."""
    return {
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<s>", "special": True, **FLAGS}],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": [["a", "b"]]},
    }


def load(folder: Path, spec: Any, settings: Any = None) -> Tokenizer:
    (folder / "tokenizer.json").write_text(spec if isinstance(spec, str) else json.dumps(spec))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return Tokenizer.load(folder)


def test_the_small_one_is_whole(tmp_path: Path) -> None:
    assert load(tmp_path, small()).encode("aba") == [3, 1]


def nested(depth: int) -> Spec:
    stage: Spec = {"type": "Lowercase"}
    for _ in range(depth):
        stage = {"type": "Sequence", "normalizers": [stage]}
    return stage


def added(**token: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["added_tokens"].append({"special": True, **FLAGS, **token})


def stage(name: str, value: Any) -> Callable[[Spec], None]:
    return lambda spec: spec.update({name: value})


def model(**values: Any) -> Callable[[Spec], None]:
    return lambda spec: spec["model"].update(values)


def template(*items: Any, known: Any = ()) -> Spec:
    return {"type": "TemplateProcessing", "single": list(items), "pair": [], "special_tokens": dict(known)}


SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
DAMAGE: list[tuple[str, Callable[[Spec], None], str]] = [
    ("merge of an unknown token", model(merges=[["a", "c"]]), "merge 0"),
    ("merge into an unknown token", model(merges=[["b", "a"]]), "merge 0"),
    ("merge of three", model(merges=["a b c"]), "not a pair"),
    ("merge of nothing", model(merges=[["a", ""]]), "not a pair"),
    ("merges that are no list", model(merges="ab"), "must be a list"),
    ("two tokens of one id", model(vocab={"<s>": 0, "a": 1, "b": 1, "ab": 2}), "share the id 1"),
    ("an id of 2^31", model(vocab={"<s>": 0, "a": 1, "b": 2**31, "ab": 3}), "gap over the limit"),
    ("a negative id", model(vocab={"<s>": 0, "a": 1, "b": -2, "ab": 3}), "-2 is not a token id"),
    ("an id that is no whole number", model(vocab={"<s>": 0, "a": 1, "b": 2.5, "ab": 3}), "2.5 is not a token id"),
    ("a vocabulary that is no map", model(vocab=7), "must map tokens to ids"),
    ("an unknown model", model(type="Magic"), "model type 'Magic'"),
    ("no model", lambda spec: spec.pop("model"), "'model' is missing"),
    ("an empty added token", added(id=9, content=""), "is empty"),
    ("an added token with another's id", added(id=1, content="<x>"), "takes the id 1 of 'a'"),
    ("an added token with a second id", added(id=9, content="a"), "two ids"),
    ("an added token given twice", added(id=0, content="<s>"), "given twice"),
    ("an added token far away", added(id=2**31, content="<x>"), "gap over the limit"),
    ("an added token with a hole before it", added(id=40, content="<x>"), "cannot have the id 40"),
    ("an added token without an id", added(content="<x>"), "has the id None"),
    ("a special token that is a word", added(id=4, content="the"), "ordinary word"),
    ("a special token that merges make", added(id=3, content="ab"), "ordinary word"),
    ("a pattern that may never end", stage("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}), "may never end"),
    ("a pattern that is none", stage("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": False}), "damaged"),
    ("a normaliser that explodes", stage("normalizer", {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1_000_000}), "inserts 1000000 characters"),
    ("a prefix that explodes", stage("normalizer", {"type": "Prepend", "prepend": "a" * 1000}), "inserts 1000 characters"),
    ("stages nested 60 deep", stage("normalizer", nested(60)), "nested more than 32 deep"),
    ("a template of an undefined token", stage("post_processor", template({"SpecialToken": {"id": "<x>", "type_id": 0}}, SEQUENCE)), "undefined special token '<x>'"),
    ("an unknown stage", stage("pre_tokenizer", {"type": "Nonsense"}), "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), [pytest.param(d, m, id=name) for name, d, m in DAMAGE])
def test_damage_is_refused_with_the_file_and_the_fault(
    damage: Callable[[Spec], None], message: str, tmp_path: Path
) -> None:
    spec = small()
    damage(spec)
    with pytest.raises(OrreryError, match=message) as caught:
        load(tmp_path, spec)
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "'model' is missing"),
        ("\ud800", None),
        ("[" * 100_000, "nested more than 128 deep"),
        ('{"normalizers": [' * 5000 + "]}" * 5000, "nested more than 128 deep"),
    ],
)
def test_files_that_are_no_tokenizer(text: str, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(OrreryError, match=message) as caught:
        Tokenizer.load(path)
    assert str(path) in str(caught.value)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with open(path, "wb") as handle:
        handle.truncate(500 << 20)  # sparse: takes no room
    with pytest.raises(OrreryError, match="has 524,288,000 bytes, over the limit"):
        Tokenizer.load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    load(tmp_path, small())
    (tmp_path / "tokenizer.json").chmod(0)
    with pytest.raises(OrreryError, match="cannot read"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auto_map": {"AutoTokenizer": ["code.py", None]}}, "run code from the model folder"),
        ({"tokenizer_class": "EvilTokenizer"}, "no tokenizer that tokenizer.json can describe"),
        ({"tokenizer_class": 7}, "no tokenizer that tokenizer.json can describe"),
        ({"bos_token": "<bos>"}, "bos_token '<bos>', which is not in the vocabulary"),
        ([], "must hold a JSON object"),
    ],
)
def test_settings_are_not_trusted_either(settings: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match=message):
        load(tmp_path, small(), settings)


@pytest.mark.parametrize(
    "name",
    [
        "LlamaTokenizer",
        "LlamaTokenizerFast",
        "PreTrainedTokenizerFast",
        "TokenizersBackend",
        "Qwen2Tokenizer",
        None,
    ],
)
def test_known_tokenizer_classes_are_read(name: str | None, tmp_path: Path) -> None:
    tokenizer = load(
        tmp_path, small(), {"tokenizer_class": name, "bos_token": {"content": "<s>", "lstrip": False}}
    )
    assert tokenizer.bos_id == 0 and tokenizer.eos_id is None


def test_unigram_vocabularies_are_checked(tmp_path: Path) -> None:
    good: Spec = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]}
    assert load(tmp_path, small() | {"added_tokens": [], "model": good}).encode("a") == [1]
    for bad, message in (
        (good | {"vocab": [["a", -1.0], ["a", -2.0]]}, "stands twice"),
        (good | {"vocab": [["a"]]}, "list of"),
        (good | {"vocab": [["a", "x"]]}, "list of"),
        (good | {"unk_id": 9}, "unk_id 9"),
    ):
        with pytest.raises(OrreryError, match=message):
            load(tmp_path, small() | {"added_tokens": [], "model": bad})


def test_what_looks_like_an_endless_merge_ends(tmp_path: Path) -> None:
    spec = small()
    spec["model"] |= {
        "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "aba": 4, "abaab": 5},
        "merges": ["a b", "ab a", "aba ab"],
    }
    tokenizer = load(tmp_path, spec)
    assert tokenizer.encode("abaababaab" * 50).count(5) > 0


@pytest.mark.parametrize("pattern", ["(a|a)*$", "(a|aa)+$", r"(\w|\d)+!", "(?:a|b|ab)+c", "a*a*a*a*a*a*b"])
def test_a_pattern_that_takes_too_long_is_refused(tmp_path: Path, pattern: str) -> None:
    spec = small() | {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
    }
    with pytest.raises(OrreryError, match="may never end"):
        load(tmp_path, spec)


@pytest.mark.parametrize(
    "pattern",
    [
        *PATTERNS.values(),
        r"\d{1,3}(?=(?:\d{3})*\b)",
        r"[(+)]+x",
        r"(?:ab)+c",
        r"\(+\)+",
        r"[a\]+]+",
        r"(?:a++)+",
    ],
)
def test_patterns_that_end(pattern: str) -> None:
    assert not nested_repeat(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a*)*", "(?:x+y)+", "((ab)+c)*", r"(\w+\s?)+", "(a{2,})+", "(?i:[ab]+)+"]
)
def test_patterns_that_may_not(pattern: str) -> None:
    assert nested_repeat(pattern)


def test_cutting_or_flipping_any_part_of_a_real_file_is_never_worse_than_an_error(
    bpe: Tokenizer, tmp_path: Path
) -> None:
    whole = json.dumps(bpe.spec).encode()
    for at in range(1, len(whole), len(whole) // 40):
        for data in (
            whole[:at],
            whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :],
            whole[:at] + whole[at + 9 :],
        ):
            (tmp_path / "tokenizer.json").write_bytes(data)
            try:
                tokenizer = Tokenizer.load(tmp_path)
                tokenizer.decode(tokenizer.encode("some text"))
            except OrreryError as error:
                assert "\n" not in str(error)


def test_the_description_given_is_not_changed() -> None:
    spec = small()
    before = copy.deepcopy(spec)
    Tokenizer(spec).encode("ab")
    assert spec == before
