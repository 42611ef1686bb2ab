"""What a parquet file claims, looked at before the parquet library believes it.

A footer of a few bytes can name a million row groups or a schema ten thousand levels deep, and a page of a kilobyte can
unfold to two gigabytes. Footer and page headers are Thrift structs in the compact protocol; the few fields needed here are
read directly. Sources: apache/parquet-format (parquet.thrift, "File format"), apache/thrift (thrift-compact-protocol.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from orrery.kit.errors import OrreryError

MAGIC = b"PAR1"
MAX_FOOTER = 64 << 20
MAX_ROW_GROUPS = 100_000
MAX_ELEMENTS = 10_000
MAX_NESTING = 64
MAX_PAGE = 1 << 30
BOMB_BYTES, BOMB_RATIO = 64 << 20, 100
"""A page of more bytes than the first that shrank by more than the second is refused."""
FEW_ROWS, ROWS_PER_BYTE = 10_000_000, 16
"""More rows than the first, and more of them for every byte of the file than the second, are no text."""
_PAGE_HEADER = 1 << 16

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


class Cut(Exception):
    """The bytes end inside a value, or are no Thrift."""


class Compact:
    """A reader of Thrift's compact protocol over bytes; `at` is where it stands."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            if self.at >= len(self.data) or shift > 63:
                raise Cut
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def number(self) -> int:
        """A signed integer (zigzag)."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def fields(self) -> Iterator[tuple[int, int]]:
        """(id, type) of each field of a struct; the caller reads or skips its value before it asks for the next."""
        id = 0
        while True:
            head = self._byte()
            if head == 0:
                return
            id = id + (head >> 4) if head >> 4 else self.number()
            yield id, head & 0x0F

    def list_head(self) -> tuple[int, int]:
        """(number, type) of the elements of a list."""
        head = self._byte()
        count = self.varint() if head >> 4 == 15 else head >> 4
        return count, head & 0x0F

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if depth > MAX_NESTING:
            raise Cut
        match kind:
            case 1 | 2:  # booleans of a struct have no bytes of their own
                pass
            case 3:
                self.at += 1
            case 4 | 5 | 6:
                self.varint()
            case 7:
                self.at += 8
            case 8:
                size = self.varint()  # (moves `at` first)
                self.at += size
            case 9 | 10:
                count, inner = self.list_head()
                if count > len(self.data):
                    raise Cut
                for _ in range(count):
                    self.skip(BYTE if inner in (TRUE, FALSE) else inner, depth + 1)
            case 11:
                count = self.varint()
                kinds = self._byte() if count else 0
                if count > len(self.data):
                    raise Cut
                for _ in range(count):
                    self.skip(kinds >> 4, depth + 1)
                    self.skip(kinds & 0x0F, depth + 1)
            case 12:
                for _, inner in self.fields():
                    self.skip(inner, depth + 1)
            case _:
                raise Cut
        if self.at > len(self.data):
            raise Cut

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise Cut
        self.at += 1
        return self.data[self.at - 1]


def check_footer(handle: BinaryIO, path: Path) -> None:
    """Refuse a file whose footer is missing, too large, or claims more than a file of its size can hold.

    Raises:
        OrreryError: names the file and the rule.
    """
    size = os.fstat(handle.fileno()).st_size
    if size < 12:
        raise _damaged(path, f"it has {size} bytes, fewer than an empty parquet file")
    handle.seek(0)
    head = handle.read(4)
    handle.seek(size - 8)
    tail = handle.read(8)
    if head != MAGIC or tail[4:] != MAGIC:
        raise _damaged(path, f"it does not begin and end with {MAGIC.decode()}")
    length = int.from_bytes(tail[:4], "little")
    if length > size - 12:
        raise _damaged(path, f"its footer is said to take {length:,} bytes, more than the file of {size:,}")
    if length > MAX_FOOTER:
        raise _damaged(path, f"its footer takes {length:,} bytes, over the limit of {MAX_FOOTER:,}")
    handle.seek(size - 8 - length)
    try:
        _check_metadata(Compact(handle.read(length)), size, path)
    except Cut:
        raise _damaged(path, "its footer cannot be read") from None


def _check_metadata(footer: Compact, size: int, path: Path) -> None:
    seen: set[int] = set()
    levels: list[tuple[int, int]] = []
    for id, kind in footer.fields():
        if id == 2 and kind == LIST:
            levels = _check_schema(footer, path)
        elif id == 3 and kind in (I32, I64):
            rows = footer.number()
            if rows < 0 or rows > max(FEW_ROWS, ROWS_PER_BYTE * size):
                raise _damaged(path, f"it claims {rows:,} rows in {size:,} bytes")
        elif id == 4 and kind == LIST:
            count, _ = footer.list_head()
            if count > MAX_ROW_GROUPS:
                raise _damaged(path, f"{count:,} row groups, over the limit of {MAX_ROW_GROUPS:,}")
            if not seen >= {2, 3}:
                raise Cut
            for _ in range(count):
                _check_row_group(footer, levels, path)
            return  # what follows is the library's to read
        else:
            footer.skip(kind)
        seen.add(id)
    raise Cut


def _check_schema(footer: Compact, path: Path) -> list[tuple[int, int]]:
    """The highest definition and repetition level of each column, in order."""
    count, _ = footer.list_head()
    if count > MAX_ELEMENTS:
        raise _damaged(path, f"a schema of {count:,} fields, over the limit of {MAX_ELEMENTS:,}")
    open_: list[list[int]] = []  # at each level: children still to come, definition level, repetition level
    columns: list[tuple[int, int]] = []
    for _ in range(count):
        children = repetition = 0
        for id, kind in footer.fields():
            if id == 5 and kind == I32:
                children = footer.number()
            elif id == 3 and kind == I32:
                repetition = footer.number()
            else:
                footer.skip(kind)
        if children < 0:
            raise Cut
        above = open_[-1][1:] if open_ else [0, 0]
        here = [above[0] + (repetition in (1, 2)), above[1] + (repetition == 2)] if open_ else [0, 0]
        if open_:
            open_[-1][0] -= 1
            if not children:
                columns.append((here[0], here[1]))
        open_.append([children, *here])
        if len(open_) > MAX_NESTING:
            raise _damaged(path, f"a schema nested more than {MAX_NESTING} deep")
        while open_ and open_[-1][0] == 0:
            open_.pop()
    return columns


def _check_row_group(footer: Compact, levels: list[tuple[int, int]], path: Path) -> None:
    """Pass over a row group; its histograms of levels must be as long as the schema says, for the library ends the process where
    they are not."""
    for _ in _at(footer, 1, LIST):
        count, _ = footer.list_head()
        if count != len(levels):
            raise _damaged(path, f"a row group of {count:,} columns, but the schema has {len(levels):,}")
        for column, highest in enumerate(levels):
            for _ in _at(footer, 3, STRUCT):  # the column's metadata
                for _ in _at(footer, 16, STRUCT):  # its size statistics
                    _check_histograms(footer, column, highest, path)


def _check_histograms(footer: Compact, column: int, highest: tuple[int, int], path: Path) -> None:
    for id, kind in footer.fields():
        if id not in (2, 3) or kind != LIST:
            footer.skip(kind)
            continue
        count, inner = footer.list_head()
        wanted = highest[id == 2] + 1
        if count not in (0, wanted):
            raise _damaged(path, f"column {column} has a histogram of {count:,} levels, not {wanted}")
        for _ in range(count):
            footer.skip(inner)


def _at(footer: Compact, wanted: int, wanted_kind: int) -> Iterator[None]:
    """Stops at one field of a struct, whose value the caller reads, and passes over the others."""
    for id, kind in footer.fields():
        if (id, kind) == (wanted, wanted_kind):
            yield
        else:
            footer.skip(kind)


def check_pages(handle: BinaryIO, path: Path, chunk: Any, column: str) -> None:
    """Refuse a column chunk that lies elsewhere than in the file, or has a page that is too large unfolded.

    Args:
        chunk: pyarrow's `ColumnChunkMetaData`.

    Raises:
        OrreryError: names the file, the byte and the rule.
    """
    size = os.fstat(handle.fileno()).st_size
    first = at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        at = min(first, chunk.dictionary_page_offset)
    end = at + chunk.total_compressed_size
    if not 4 <= at <= first < end <= size:
        raise _damaged(
            path,
            f"column '{column}' is said to lie at bytes {at:,} to {end:,} (data from {first:,}) of {size:,}",
        )
    while at < end:
        handle.seek(at)
        header = Compact(handle.read(min(_PAGE_HEADER, end - at)))
        unfolded = stored = -1
        try:
            for id, kind in header.fields():
                if id == 2 and kind == I32:
                    unfolded = header.number()
                elif id == 3 and kind == I32:
                    stored = header.number()
                else:
                    header.skip(kind)
        except Cut:
            raise _damaged(path, f"byte {at:,}: a page of column '{column}' has no readable header") from None
        if unfolded < 0 or not 0 <= stored <= end - at - header.at:
            raise _damaged(path, f"byte {at:,}: a page of column '{column}' has a size that does not fit")
        if unfolded > MAX_PAGE or (unfolded > BOMB_BYTES and unfolded > BOMB_RATIO * max(stored, 1)):
            raise OrreryError(
                f"'{path}', byte {at:,}: a page of column '{column}' unfolds from {stored:,} to {unfolded:,} bytes, over the "
                "limit; write the file again with smaller pages"
            )
        at += header.at + stored


def _damaged(path: Path, rule: str) -> OrreryError:
    return OrreryError(f"'{path}' is damaged or not a parquet file: {rule}; write it again")
