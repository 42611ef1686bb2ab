from __future__ import annotations

import builtins
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.data import reader
from orrery.data.cut import LONG, PART
from orrery.data.parquet_guard import check_footer
from orrery.data.reader import kind_of, read_file
from orrery.kit.errors import MissingExtra, OrreryError


def texts(path: Path, field: str = "text") -> list[str]:
    return [document.text for document in read_file(path, field)]


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Grüße\r\n漢字")
    (document,) = read_file(path)
    assert (document.name, document.text, document.path) == (str(path), "Grüße\r\n漢字", str(path))


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.md", b"\xef\xbb\xbf# Title")) == ["# Title"]


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.rst.gz", gzip.compress(b"text", mtime=0))) == ["text"]
    lines = b'{"text": "one"}\n\n{"text": "two"}'
    assert texts(write(tmp_path / "b.jsonl.gz", gzip.compress(lines, mtime=0))) == ["one", "two"]


def test_every_line_of_json_is_a_document_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n\n{"body": 1, "text": "t\\u0077o"}\n')
    assert [(document.name, document.text) for document in read_file(path)] == [
        (f"{path}:1", "one"),
        (f"{path}:3", "two"),
    ]


def test_long_texts_come_in_parts(tmp_path: Path) -> None:
    text = "A line of the book.\n" * (LONG // 15)
    for path in (write(tmp_path / "a.txt", text), write(tmp_path / "a.jsonl", json.dumps({"text": text}))):
        parts = list(read_file(path))
        assert len(parts) > 1 and "".join(part.text for part in parts) == text
        assert all(len(part.text) <= PART and text[part.start :].startswith(part.text) for part in parts)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None, "three"], "n": [1, 2, 3]}), path)
    assert [(document.id, document.text) for document in read_file(path)] == [
        (f"{path}:0", "one"),
        (f"{path}:1", ""),
        (f"{path}:2", "three"),
    ]
    with pytest.raises(OrreryError, match=r"no field 'txet'.*Did you mean 'text'"):
        texts(path, "txet")
    with pytest.raises(OrreryError, match="'n' is not text but int64"):
        texts(path, "n")
    data = path.read_bytes()
    for damaged in (b"not parquet at all", data[: len(data) // 2], b""):
        with pytest.raises(OrreryError, match="damaged or not a parquet file"):
            texts(write(tmp_path / "b.parquet", damaged))


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"orrery-lm\[data\]"):
        texts(write(tmp_path / "a.parquet", b""))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.txt", b"abc\x00def", r"a\.txt' is a binary file \(a NUL byte at offset 3\)"),
        ("a.txt", b"ab\xffc", r"not UTF-8 text \(byte 0xff at offset 2\)"),
        ("a.txt", "end ä".encode()[:-1], r"not UTF-8 text \(byte 0xc3 at offset 4\)"),
        ("a.txt", "text".encode("utf-16"), "UTF-16"),
        ("a.txt.gz", b"not gzip", "damaged or not a gzip"),
        ("a.txt.gz", gzip.compress(b"x" * 1000, mtime=0)[:-9], "damaged or not a gzip"),
        (
            "a.txt.gz",
            gzip.compress(bytes(range(1, 128)) * 9, mtime=0)[:20] + b"\xff" * 30,
            "damaged or not a gzip",
        ),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"\n', r"a\.jsonl', line 2: not a line of JSON"),
        ("a.jsonl", b"[1]\n", "line 1: a JSON object"),
        ("a.jsonl", b'{"text": "\xff"}\n', "line 1: not UTF-8"),
        ("a.jsonl", b"[" * 100_000, "line 1: not a line of JSON"),
        ("a.jsonl", b"1" * 5000, "line 1: not a line of JSON"),
        ("a.jsonl", b'{"txt": "a"}\n', "no field 'text' .*Did you mean 'txt'"),
        ("a.jsonl", b'{"n": 1, "content": "a"}\n', "its fields: n, content.*Did you mean 'content'"),
        ("a.jsonl", b"{}\n", "its fields: none"),
        ("a.jsonl", b'{"text": ["a"]}\n', "is not text but list"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    with pytest.raises(OrreryError, match=words):
        texts(write(tmp_path / name, data))


@given(st.text(min_size=1), st.integers(1, 9), st.data())
def test_any_text_survives_and_a_bad_byte_is_found_wherever_blocks_end(
    text: str, block: int, draw: st.DataObject
) -> None:
    import tempfile

    text = text.replace("\0", "").removeprefix("\ufeff") or "x"
    data = text.encode()
    whole, reader.BLOCK = reader.BLOCK, block
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / "a.txt", data)
            if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
                assert "".join(texts(path)) == text
            at = draw.draw(st.integers(1, len(data)))
            before = len(
                data[:at].decode(errors="ignore").encode()
            )  # a character cut short is at fault where it begins
            write(path, data[:at] + b"\xff" + data[at:])
            with pytest.raises(OrreryError, match=rf"at offset {before}\)"):
                texts(path)
    finally:
        reader.BLOCK = whole


def test_an_endless_line_of_json_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LINE", 100)
    with pytest.raises(OrreryError, match="line 1: longer than"):
        texts(write(tmp_path / "a.jsonl", b'{"text": "' + b"a" * 100 + b'"}'))


def test_bad_lines_may_be_left_out_and_are_told(tmp_path: Path) -> None:
    lines = [
        b'{"text": "a"}',
        b"{",
        b'{"text": NaN}',
        b'{"text": "b", "text": "c"}',
        b'{"text": "d"}',
        b'{"text": "\\ud800"}',
        b'{"text": "e',
    ]
    path = write(tmp_path / "a.jsonl", b"\n".join(lines))
    told: list[tuple[str, str]] = []
    found = [
        document.text
        for document in read_file(path, "text", lambda place, error: told.append((place, str(error))))
    ]
    assert found == ["a", "d"]
    assert [place.rpartition(":")[2] for place, _ in told] == ["2", "3", "4", "6", "7"]
    assert "given twice" in told[2][1] and "was its writer stopped" in told[4][1]


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"no\n" * 1000 + b'{"text": "a"}\n')
    told: list[str] = []
    assert len(list(read_file(path, "text", lambda place, error: told.append(str(error))))) == 1
    assert len(told) == 21 and told[-1].endswith("980 more lines or rows could not be read")


def test_a_file_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    member = gzip.compress(b"a" * (32 << 20), mtime=0)
    for name in ("a.txt.gz", "a.jsonl.gz"):
        with pytest.raises(OrreryError, match=r"unfolds to more than 100 times|longer than 32 MiB"):
            texts(write(tmp_path / name, member * 40))
    with pytest.raises(OrreryError, match="more than 65,536 empty lines"):
        texts(write(tmp_path / "b.jsonl", b"\n" * 70_000))


def test_parquet_claims_and_pages_are_checked(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", "two", "three"]}), path, write_page_checksum=True)
    data = path.read_bytes()
    for damaged, words in (
        (data.replace(b"three", b"thrEe", 1), "damaged"),
        (data[:-8] + (len(data)).to_bytes(4, "little") + b"PAR1", "footer is said to take"),
        (data[:-8] + (0).to_bytes(4, "little") + b"PAR1", "footer cannot be read"),
    ):
        with pytest.raises(OrreryError, match=words):
            texts(write(tmp_path / "b.parquet", damaged))
    bomb = tmp_path / "c.parquet"
    pq.write_table(
        pa.table({"text": ["a" * (70 << 20)]}),
        bomb,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    with pytest.raises(OrreryError, match=r"unfolds from .* bytes, over the limit"):
        texts(bomb)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.TXT", "text"),
        ("a.py", "text"),
        ("README", "text"),
        ("b.tar.md", "text"),
        ("a.ndjson", "jsonl"),
        ("a.jsonl.gz", "jsonl"),
        ("a.parquet", "parquet"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.pdf", "extract its text"),
        ("a.json", "name it .jsonl"),
        ("a.exe", "readable are"),
        ("a.parquet.gz", "cannot read"),
    ],
)
def test_other_kinds_are_refused_with_advice(name: str, words: str) -> None:
    assert kind_of(Path(name), strict=False) is None
    with pytest.raises(OrreryError, match=words):
        kind_of(Path(name))


def test_a_file_that_may_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="no file at"):
        texts(tmp_path / "gone.txt")


def test_histograms_of_levels_that_the_schema_denies(tmp_path: Path) -> None:
    """A column that is called required although its pages have levels: the parquet library would end the process."""
    pa = pytest.importorskip("pyarrow", reason="needs the data extra")
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": ["one", None, "three"]}), path)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    faults = []
    for at in (i for i in range(footer, len(data) - 8) if data[i] == 2):  # 1, optional, as Thrift writes it
        path.write_bytes(data[:at] + b"\0" + data[at + 1 :])
        with path.open("rb") as handle:
            try:
                check_footer(handle, path)
            except OrreryError as error:
                faults.append(str(error))
    assert any("histogram of 2 levels, not 1" in fault for fault in faults)
