"""One column of text from a parquet file, in small batches, after the file's claims were checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orrery.data.parquet_guard import check_footer, check_pages
from orrery.data.record import LeftOut, text_of
from orrery.kit.errors import MissingExtra, OrreryError
from orrery.kit.untrusted import open_regular

ROWS, BUFFER = 256, 1 << 20


def read_column(path: Path, field: str, left_out: LeftOut) -> Iterator[tuple[int, str]]:
    """(row, text) of each row; a null is an empty text, one that is not UTF-8 goes to `left_out`.

    Raises:
        OrreryError: the file is damaged, claims more than it can hold, or has no such column of text.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "data") from None
    row = 0
    try:
        with open_regular(path, "a parquet file") as handle:
            check_footer(handle, path)
            handle.seek(0)
            table = pq.ParquetFile(
                handle, pre_buffer=False, buffer_size=BUFFER, page_checksum_verification=True
            )
            kind = _kind(table, field, path, pa)
            column = _column(table, field, path)
            for group in range(table.metadata.num_row_groups):
                if table.metadata.row_group(group).num_rows == 0:
                    continue
                check_pages(handle, path, table.metadata.row_group(group).column(column), field)
                for batch in table.iter_batches(ROWS, row_groups=[group], columns=[field]):
                    for data in batch.column(0).cast(kind).to_pylist():
                        yield row, _text(data, path, row, left_out)
                        row += 1
            if row != table.metadata.num_rows:
                raise OrreryError(
                    f"'{path}' is damaged: it claims {table.metadata.num_rows:,} rows and holds {row:,}; write it again"
                )
    except (pa.ArrowException, OSError, OverflowError, UnicodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise OrreryError(
            f"'{path}' is damaged or not a parquet file (row {row}: {reason}); write it again"
        ) from None


def _kind(table: Any, field: str, path: Path, pa: Any) -> Any:
    """The type of bytes behind the column's type of text."""
    schema = table.schema_arrow
    if field not in schema.names:
        text_of(dict.fromkeys(schema.names, ""), field, f"'{path}'")
    if schema.names.count(field) > 1:
        raise OrreryError(f"'{path}' has two columns '{field}'; write it again")
    column = schema.field(field)
    marked = b"ARROW:extension:name" in (column.metadata or {})
    if isinstance(column.type, pa.BaseExtensionType) or marked:
        raise OrreryError(
            f"'{path}': the column '{field}' is of an extension type, which is not read; save it as strings"
        )
    if pa.types.is_string(column.type):
        return pa.binary()
    if pa.types.is_large_string(column.type):
        return pa.large_binary()
    raise OrreryError(
        f"'{path}': the column '{field}' is not text but {column.type}; set text_field to a text column"
    )


def _column(table: Any, field: str, path: Path) -> int:
    """The place of the column among those stored."""
    names = [table.schema.column(i).path for i in range(len(table.schema.names))]
    if field not in names:
        raise OrreryError(
            f"'{path}' is damaged: its schema names a column '{field}' that is not stored; write it again"
        )
    return names.index(field)


def _text(data: bytes | None, path: Path, row: int, left_out: LeftOut) -> str:
    try:
        return "" if data is None else data.decode("utf-8")
    except UnicodeDecodeError as error:
        left_out(
            row,
            OrreryError(
                f"'{path}', row {row}: not UTF-8 (byte {error.start} of the text); leave the row out"
            ),
        )
        return ""
