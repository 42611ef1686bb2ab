"""Reading one file: plain text, JSON lines, either of them gzipped, and parquet.

Files are opened by what their name says and believed only when their bytes agree: text must be UTF-8 without NUL bytes.
Nothing is read whole, whatever its size, but one line of JSON (at most LINE bytes) or one small batch of parquet rows.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from orrery.data.cut import LONG, PART, Document, cut, documents_from_blocks
from orrery.data.parquet import read_column
from orrery.data.record import LeftOut, text_of
from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.untrusted import FOREIGN, open_regular

BLOCK = 1 << 18
LINE = 1 << 25
INFLATED, RATIO = 1 << 26, 100
"""A gzip file that has given more bytes than the first, and more for each of its own than the second, is a bomb."""
EMPTY = 1 << 16
Kind = Literal["text", "jsonl", "parquet"]

READABLE = (".txt", ".md", ".rst", ".py", ".jsonl", "these with .gz", ".parquet")
PROSE = {
    ".txt",
    ".text",
    ".md",
    ".markdown",
    ".rst",
    ".adoc",
    ".org",
    ".tex",
    ".html",
    ".htm",
    ".xml",
    ".csv",
    ".tsv",
    ".log",
}
CODE = {
    ".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".go", ".java", ".kt", ".swift", ".js", ".ts", ".jsx", ".tsx",
    ".rb", ".php", ".pl", ".lua", ".r", ".jl", ".hs", ".ml", ".scala", ".sh", ".sql", ".css", ".toml", ".yaml", ".yml", ".ini", ".cfg",
}  # fmt: skip
JSON_LINES = {".jsonl", ".ndjson"}
HINTS = {
    ".json": "write one JSON object a line and name it .jsonl",
    ".pdf": "extract its text to .txt first",
    ".docx": "save it as .txt first",
    ".zip": "unpack it first",
    ".zst": "unpack it, or compress it with gzip",
    ".xz": "unpack it, or compress it with gzip",
    ".bz2": "unpack it, or compress it with gzip",
}


def kind_of(path: Path, *, strict: bool = True) -> Kind | None:
    """How a file of this name is read. A name without suffix is text; an unknown suffix is refused, or None if not strict.

    Raises:
        OrreryError: a suffix that cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last in PROSE | CODE or (strict and not last):
        return "text"
    if last in JSON_LINES:
        return "jsonl"
    if last == ".parquet" and path.suffix.lower() != ".gz":
        return "parquet"
    if not strict:
        return None
    hint = HINTS.get(last) or FOREIGN.get(last) or f"readable are {', '.join(READABLE)}"
    raise OrreryError(f"cannot read '{path}' (files of type '{last}'); {hint}")


def read_file(
    path: Path, text_field: str = "text", bad: Callable[[str, OrreryError], None] | None = None
) -> Iterator[Document]:
    """The documents of one file: a text file is one (or its parts), every line of JSON and row of parquet is one.

    Args:
        bad: told of each line or row that cannot be read (its name, why) and is left out; None stops at the first.

    Raises:
        OrreryError: names the file and the byte offset, line or row that cannot be read.
    """
    kind = kind_of(path)
    if kind == "text":
        yield from read_text_file(path, str(path))
        return
    left_out = LeftOut(path, bad)
    if kind == "jsonl":
        with _opened(path) as handle:
            yield from _json_lines(handle, path, text_field, left_out)
    else:
        for row, text in read_column(path, text_field, left_out):
            yield from long_parts(Document(f"{path}:{row}", text, str(path)))
    left_out.end()


def read_text_file(path: Path, name: str) -> Iterator[Document]:
    """A UTF-8 file as one document called `name`, or as its parts when it is long."""
    with _opened(path) as handle:
        yield from documents_from_blocks(_decoded(handle, path), id=name, path=name)


@contextmanager
def _opened(path: Path) -> Iterator[Source]:
    compressed = path.suffix.lower() == ".gz"
    try:
        with open_regular(path, "a file of text") as raw:
            if compressed:
                with gzip.GzipFile(fileobj=raw) as handle:
                    yield Inflated(handle, raw, path)
            else:
                yield raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OrreryError(
            f"'{path}' is damaged or not a gzip file ({error}); compress or copy it again"
        ) from None
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror or error}") from None


class Inflated:
    """A gzip file as it is read, stopped when it proves to hold far more than any text would."""

    def __init__(self, handle: gzip.GzipFile, raw: BinaryIO, path: Path) -> None:
        self._handle, self._raw, self._path, self._next = handle, raw, path, INFLATED

    def read(self, size: int) -> bytes:
        return self._counted(self._handle.read(size))

    def readline(self, size: int) -> bytes:
        return self._counted(self._handle.readline(size))

    def _counted(self, data: bytes) -> bytes:
        if (out := self._handle.tell()) > self._next:
            self._next = out + INFLATED // 4
            if out > RATIO * self._raw.tell():
                raise OrreryError(
                    f"'{self._path}' unfolds to more than {RATIO} times its size ({out:,} bytes so far); it is not text"
                )
        return data


class Source(Protocol):
    """What is read of a file that is open."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


def _decoded(handle: Source, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    while block := handle.read(BLOCK):
        if offset == 0:
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise OrreryError(f"'{path}' is UTF-16 text; save it as UTF-8")
            if block.startswith(codecs.BOM_UTF8):
                block = block[3:]
                offset = 3
        yield _text(decoder, block, offset, path, final=False)
        offset += len(block)
    yield _text(decoder, b"", offset, path, final=True)


def _text(decoder: codecs.IncrementalDecoder, block: bytes, offset: int, path: Path, *, final: bool) -> str:
    nul = block.find(0)
    if nul >= 0:
        raise OrreryError(
            f"'{path}' is a binary file (a NUL byte at offset {offset + nul}); only text can be read"
        )
    waiting = len(decoder.getstate()[0])  # bytes of a character that the last block cut
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        raise OrreryError(
            f"'{path}' is not UTF-8 text (byte 0x{error.object[error.start]:02x} at offset "
            f"{offset - waiting + error.start}); save it as UTF-8, or leave it out"
        ) from None


def read_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every line of a file of JSON lines, gzipped or not.

    Raises:
        OrreryError: names the file and the line that cannot be read.
    """
    with _opened(path) as handle:
        for number, line in _lines(handle, path):
            yield number, _json(line, path, number)


def read_bytes(path: Path, most: int) -> bytes:
    """The whole of a file, unfolded if it is gzipped.

    Raises:
        OrreryError: it cannot be read, or is larger than `most` bytes.
    """
    whole = bytearray()
    with _opened(path) as handle:
        while block := handle.read(BLOCK):
            whole += block
            if len(whole) > most:
                raise OrreryError(f"'{path}' is larger than {most >> 20} MiB; write it as JSON lines")
    return bytes(whole)


def _json_lines(handle: Source, path: Path, field: str, left_out: LeftOut) -> Iterator[Document]:
    for number, line in _lines(handle, path):
        try:
            text = text_of(_json(line, path, number), field, f"'{path}', line {number}")
        except OrreryError as error:
            left_out(number, error)
            continue
        yield from long_parts(Document(f"{path}:{number}", text, str(path)))


def _lines(handle: Source, path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    number = empty = 0
    while line := _line(handle, path, number + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            empty += 1
            if empty > EMPTY:
                raise OrreryError(
                    f"'{path}', line {number}: more than {EMPTY:,} empty lines in a row; it is not text"
                )
            continue
        empty = 0
        yield number, line


def _line(handle: Source, path: Path, number: int) -> bytes:
    """The next line with its end; a long one in pieces, so that one without end is noticed before it is held twice."""
    line = handle.readline(min(BLOCK, LINE + 1))
    if len(line) < min(BLOCK, LINE + 1) or line.endswith(b"\n"):
        return line
    whole = bytearray(line)
    while not whole.endswith(b"\n") and (piece := handle.readline(BLOCK)):
        whole += piece
        if len(whole) > LINE:
            break
    if len(whole) > LINE:
        raise OrreryError(
            f"'{path}', line {number}: longer than {LINE >> 20} MiB; is it one JSON object a line?"
        )
    return bytes(whole)


def _json(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = parse_json(line)
    except JsonFault as error:
        if str(error).startswith("not UTF-8"):
            raise OrreryError(f"'{path}', line {number}: {error} of the line; save it as UTF-8") from None
        cut = (
            ""
            if line.endswith(b"\n")
            else "; it has no end of line: was its writer stopped before it was done?"
        )
        raise OrreryError(
            f"'{path}', line {number}: not a line of JSON ({error}{cut}); mend or remove the line"
        ) from None
    if not isinstance(record, dict):
        raise OrreryError(
            f"'{path}', line {number}: a JSON object with a text field is needed, not a {type(record).__name__}"
        )
    return record


def long_parts(document: Document) -> Iterator[Document]:
    """The document, or its parts when it is long: the rule for text that is already in memory."""
    return cut(document, PART) if len(document.text) > LONG else iter((document,))
