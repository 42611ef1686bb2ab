"""JSON with limits: what json reads is read alike, and what is no JSON, or too much of it, is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit import json as module
from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json, read_json, read_object, scan

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN, st.booleans())
def test_what_json_writes_is_read_alike(value: object, ascii: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    try:
        data.decode()
    except UnicodeDecodeError:
        return
    assert parse_json(data) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "byte 0"),
        (b'{"a": 1,}', "byte 8"),
        ('{"ä": x}'.encode(), "byte 7"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
        (b"[NaN]", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"[1e999]", "beyond what a float holds"),
        (b"1" * 65, "65 digits"),
        (b'"\\ud800"', "half a character"),
        (b'["\\udc00\\ud800"]', "half a character"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"),
        (b'{"a":' * 100_000, "nested more than 64 deep"),
        (b"[" + b"0," * 2_000_000 + b"0]", "more than 1,048,576 values"),
    ],
)
def test_what_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(JsonFault, match=why):
        parse_json(text)


def test_numbers_may_be_let_through_that_are_none() -> None:
    assert parse_json(b"[-Infinity, Infinity]", nan=True) == [float("-inf"), float("inf")]


@given(st.text(alphabet='[]{},:"\\ax', max_size=60), st.integers(1, 9))
def test_the_scan_does_not_depend_on_where_blocks_end(text: str, block: int) -> None:
    """Brackets and commas inside strings do not count, wherever a block cuts an escape."""
    value = [[text, {text: [text]}], text]
    data = json.dumps(value).encode()
    whole, module._BLOCK = module._BLOCK, block
    try:
        for depth, fits in ((4, True), (3, False)):
            for padded in (data, b" " * 7 + data):
                if fits:
                    scan_always(padded, depth, 7)
                else:
                    with pytest.raises(JsonFault, match="nested more than 3"):
                        scan_always(padded, depth, 7)
        with pytest.raises(JsonFault, match="more than 6 values"):
            scan_always(data, 4, 6)
    finally:
        module._BLOCK = whole


def scan_always(data: bytes, depth: int, values: int) -> None:
    """`scan` past its short cut for short texts, which only many brackets get past."""
    scan(data + b' "' + b"[" * 9 + b',"', max_depth=depth, max_values=values)


def test_large_files_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    monkeypatch.setattr(module, "LARGE", 100)
    monkeypatch.setattr(module, "read_regular", None)  # not reached
    for data, why in (
        (b"[" + b" " * 200 + b"\0]", "control character"),
        (b'["' + b"x" * 300_000 + b'\x80"]', "not UTF-8 before byte"),
        (b"[" * 200, "nested more than 64"),
        (b"[" + b"1," * 1_100_000 + b"1]", "more than 1,048,576 values"),
    ):
        path.write_bytes(data)
        with pytest.raises(OrreryError, match=why):
            read_json(path)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}')
    assert read_object(path) == {"a": [1]}
    path.write_text("[1]")
    assert read_json(path) == [1]
    with pytest.raises(OrreryError, match=r"a\.json' must hold a JSON object, not a list"):
        read_object(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(OrreryError, match="it holds a zip archive"):
        read_json(path)
    path.write_text(" " * 100)
    with pytest.raises(OrreryError, match="has 100 bytes, over the limit of 99 for a list of names"):
        read_json(path, max_bytes=99, what="a list of names")
    with pytest.raises(OrreryError, match=r"no file at .*Did you mean 'a\.json'"):
        read_json(tmp_path / "b.json")
