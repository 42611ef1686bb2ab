"""The rows of a file of examples: JSON lines, a JSON list, either of them gzipped, and parquet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.data.parquet_guard import check_footer, check_pages
from orrery.data.reader import read_bytes, read_records
from orrery.kit.errors import MissingExtra, OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.untrusted import open_regular

LARGEST_JSON, MOST_VALUES = 1 << 30, 1 << 27
PARQUET_ROWS = 256
READABLE = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row and its place, such as `'data/x.jsonl', line 7`."""

    where: str
    fields: dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in order.

    Raises:
        OrreryError: a file of another kind, damaged, or with a row that is no object; names the file and line.
    """
    match _suffix(path):
        case ".jsonl" | ".ndjson":
            yield from (Row(f"'{path}', line {line}", fields) for line, fields in read_records(path))
        case ".json":
            yield from _json_rows(path)
        case ".parquet":
            yield from _parquet_rows(path)
        case other:
            raise OrreryError(
                f"cannot read rows from '{path}' (a file of type '{other}'); readable are {', '.join(READABLE)}, the first "
                "two with .gz too; plain text is read with format: text"
            )


def has_rows(path: Path) -> bool:
    """Whether a file of this name holds rows (rather than plain text)."""
    return _suffix(path) in (".jsonl", ".ndjson", ".json", ".parquet")


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kept = suffixes[:-1] if suffixes[-1:] == [".gz"] else suffixes
    return kept[-1] if kept else ""


def _json_rows(path: Path) -> Iterator[Row]:
    """A list of objects, or an object that holds one such list and nothing else that could be meant."""
    try:
        value = parse_json(read_bytes(path, LARGEST_JSON), max_values=MOST_VALUES)
    except JsonFault as fault:
        raise OrreryError(
            f"'{path}' is not JSON ({fault}); mend it, or name it .jsonl if it has one object a line"
        ) from None
    if isinstance(value, dict):
        lists = [
            item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)
        ]
        value = lists[0] if len(lists) == 1 and not {"messages", "conversations"} & value.keys() else [value]
    if not isinstance(value, list):
        raise OrreryError(f"'{path}' must hold a list of objects; write one row an object")
    for number, fields in enumerate(value):
        if not isinstance(fields, dict):
            raise OrreryError(f"'{path}', item {number}: not an object; write one row an object")
        yield Row(f"'{path}', item {number}", fields)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    number = 0
    try:
        with open_regular(path, "a parquet file") as handle:
            check_footer(handle, path)
            handle.seek(0)
            table = pq.ParquetFile(handle, pre_buffer=False, page_checksum_verification=True)
            for group in range(table.metadata.num_row_groups):
                chunks = table.metadata.row_group(group)
                for column in range(chunks.num_columns if chunks.num_rows else 0):
                    check_pages(handle, path, chunks.column(column), chunks.column(column).path_in_schema)
                for batch in table.iter_batches(PARQUET_ROWS, row_groups=[group]):
                    for fields in batch.to_pylist():
                        yield Row(f"'{path}', row {number}", _without_nulls(fields))
                        number += 1
    except (pa.ArrowException, OSError, OverflowError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OrreryError(
            f"'{path}' is damaged or not a parquet file (row {number}: {reason}); write it again"
        ) from None


def _without_nulls(value: Any) -> Any:
    """A column of objects has every key in every row; those that a row did not have come back as null."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
