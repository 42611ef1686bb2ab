"""Reading one file: plain text, JSON lines, either of them gzipped, and parquet.

Files are opened by what their name says and believed only when their bytes agree: text must be UTF-8 without NUL bytes.
Nothing is read whole, whatever its size, but one line of JSON (at most LINE bytes) or one small batch of parquet rows.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from orrery.data.cut import LONG, PART, Document, cut, documents_from_blocks
from orrery.kit.errors import MissingExtra, OrreryError, suggest

BLOCK = 1 << 18
LINE = 1 << 26
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
    hint = HINTS.get(last, f"readable are {', '.join(READABLE)}")
    raise OrreryError(f"cannot read '{path}' (files of type '{last}'); {hint}")


def read_file(path: Path, text_field: str = "text") -> Iterator[Document]:
    """The documents of one file: a text file is one (or its parts), every line of JSON and row of parquet is one.

    Raises:
        OrreryError: names the file and the byte offset, line or row that cannot be read.
    """
    kind = kind_of(path)
    if kind == "text":
        yield from read_text_file(path, str(path))
    elif kind == "jsonl":
        with _opened(path) as handle:
            yield from _json_lines(handle, path, text_field)
    else:
        yield from _parquet(path, text_field)


def read_text_file(path: Path, name: str) -> Iterator[Document]:
    """A UTF-8 file as one document called `name`, or as its parts when it is long."""
    with _opened(path) as handle:
        yield from documents_from_blocks(_decoded(handle, path), id=name, path=name)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    compressed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path, "rb") if compressed else open(path, "rb") as handle:
            yield handle  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OrreryError(
            f"'{path}' is damaged or not a gzip file ({error}); compress or copy it again"
        ) from None
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror or error}") from None


def _decoded(handle: IO[bytes], path: Path) -> Iterator[str]:
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


def _json_lines(handle: IO[bytes], path: Path, field: str) -> Iterator[Document]:
    number = 0
    while line := handle.readline(LINE + 1):
        number += 1
        if len(line) > LINE:
            raise OrreryError(
                f"'{path}', line {number}: longer than {LINE >> 20} MiB; is it one JSON object a line?"
            )
        if not line.strip():
            continue
        text = _field(_json(line, path, number), field, f"'{path}', line {number}")
        yield from long_parts(Document(f"{path}:{number}", text, str(path)))


def _json(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        raise OrreryError(
            f"'{path}', line {number}: not UTF-8 (byte {error.start} of the line); save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        why = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply or not JSON"
        raise OrreryError(
            f"'{path}', line {number}: not a line of JSON ({why}); mend or remove the line"
        ) from None
    if not isinstance(record, dict):
        raise OrreryError(
            f"'{path}', line {number}: a JSON object with a text field is needed, not a {type(record).__name__}"
        )
    return record


def _field(record: dict[str, Any], field: str, where: str) -> str:
    if field not in record:
        near = suggest(field, record) or _longest_text(record)
        fields = ", ".join(map(str, record)) or "none"
        raise OrreryError(f"{where}: no field '{field}' (its fields: {fields}); set text_field.{near}")
    text = record[field]
    if not isinstance(text, str):
        raise OrreryError(
            f"{where}: the field '{field}' is not text but {type(text).__name__}; set text_field to a text field"
        )
    return text


def _longest_text(record: dict[str, Any]) -> str:
    """A guess at the field that was meant: the one with the longest text."""
    texts = {str(name): len(value) for name, value in record.items() if isinstance(value, str)}
    return f" Did you mean '{max(texts, key=lambda name: texts[name])}'?" if texts else ""


def _parquet(path: Path, field: str) -> Iterator[Document]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    row = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            columns = {name: "" for name in table.schema_arrow.names}
            if field not in columns:
                _field(columns, field, f"'{path}'")
            column = table.schema_arrow.field(field)
            if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
                raise OrreryError(
                    f"'{path}': the column '{field}' is not text but {column.type}; set text_field to a text column"
                )
            for batch in table.iter_batches(batch_size=256, columns=[field]):
                for text in batch.column(0).to_pylist():
                    yield from long_parts(Document(f"{path}:{row}", text or "", str(path)))
                    row += 1
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise OrreryError(
            f"'{path}' is damaged or not a parquet file (row {row}: {reason}); write it again"
        ) from None
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror or error}") from None


def long_parts(document: Document) -> Iterator[Document]:
    """The document, or its parts when it is long: the rule for text that is already in memory."""
    return cut(document, PART) if len(document.text) > LONG else iter((document,))
