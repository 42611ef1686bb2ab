"""YAML as plain data: words, numbers, limits, and nothing that names code."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit import yaml as module
from orrery.kit.errors import OrreryError
from orrery.kit.yaml import YamlFault, parse_yaml, read_yaml_file

WORD = st.text("abcxyz é/._-:#'\"0123", max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORD, inner, max_size=4),
    max_leaves=15,
)


@given(PLAIN, st.booleans())
def test_what_yaml_writes_is_read_alike(value: object, flow: bool) -> None:
    assert parse_yaml(yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)) == value


@pytest.mark.parametrize("parser", ["in C", "in Python"])
def test_words_and_numbers_are_those_of_the_core_schema(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if parser == "in Python":
        monkeypatch.setattr(module, "_PARSER", yaml.SafeLoader)
    text = """\
words: [no, on, yes, y, Off, 2024-01-01, 12:30, 1e, 0b1, .e3, 1.2.3, '1', "true", !!str 3]
numbers: [010, 0o10, 0x1f, -3, +4, 1_000, .5, 3., 3e-4, 1E3, !!float 2]
others: [~, null, '', true, FALSE, !!null '']
empty:
"""
    assert parse_yaml(text) == {
        "words": [
            "no",
            "on",
            "yes",
            "y",
            "Off",
            "2024-01-01",
            "12:30",
            "1e",
            "0b1",
            ".e3",
            "1.2.3",
            "1",
            "true",
            "3",
        ],
        "numbers": [10, 8, 31, -3, 4, 1000, 0.5, 3.0, 3e-4, 1000.0, 2.0],
        "others": [None, None, "", True, False, None],
        "empty": None,
    }
    assert all(type(number) is int for number in parse_yaml(text)["numbers"][:6])


def test_aliases_are_read_and_counted() -> None:
    assert parse_yaml("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}
    text = "\n".join(["a0: &a0 [1, 2]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 20))])
    with pytest.raises(YamlFault, match=r"line 1[0-9]: more than 100,000 values"):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: !!python/object/apply:os.system [x]", "line 1: the tag .*os.system' is not plain data"),
        ("a: !mine b", "is not plain data"),
        ("!!python/dict {a: 1}", "is not plain data"),
        ("- !!binary aGk=", "is not plain data"),
        ("!!int x", "'x' is no int"),
        ("a: 1\na: 2", "line 2: the key 'a' is given twice"),
        ("{1: a, 0x1: b}", "given twice"),
        ("? [a]\n: b", "cannot be a key"),
        ("a: &x [*x]", "names nothing that is complete"),
        ("a: *nowhere", "names nothing that is complete"),
        ("[" * 65, "nested more than 64 deep"),
        ("\n".join(" " * i + "a:" for i in range(70)), "line 65: nested more than 64"),
        ("a: .nan", "no number"),
        ("a: -.INF", "no number"),
        ("a: 1e400", "beyond what a float holds"),
        ("a: " + "7" * 65, "65 digits"),
        ("---\na\n---\nb", "line 3: a second document"),
        ("a: 'x", "unexpected end"),
        ("a: \0", "not allowed|control characters"),
        ("\ta: 1", "cannot start any token"),
    ],
)
@pytest.mark.parametrize("parser", ["in C", "in Python"])
def test_what_is_refused(text: str, why: str, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if parser == "in Python":
        monkeypatch.setattr(module, "_PARSER", yaml.SafeLoader)
    with pytest.raises(YamlFault, match=why) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("")
    assert read_yaml_file(path) is None
    path.write_bytes(b"a: \xff")
    with pytest.raises(OrreryError, match=r"a\.yaml' is not UTF-8 text \(at byte 3\)"):
        read_yaml_file(path)
    path.write_text("a: [1")
    with pytest.raises(OrreryError, match=r"a\.yaml' is not valid YAML"):
        read_yaml_file(path)
    path.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(OrreryError, match="over the limit of 1,048,576 for a recipe"):
        read_yaml_file(path)
