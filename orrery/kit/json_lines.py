"""Rows as JSON lines: read whole or gzipped, and appended so that a crash costs at most the row being written.

A row is one line, written by one call at the end of the file and fsynced before `append` returns. A line that a crash left half
written has no line end: `read_rows` with `torn=True` leaves it out, and the next append begins a new line behind it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write


def read_rows(path: str | Path, *, torn: bool = False) -> list[dict[str, Any]]:
    """The objects of a .jsonl or .jsonl.gz file; empty lines do not count.

    Args:
        torn: the file is one that `append` writes: what a crash left of a row is passed over.

    Raises:
        OrreryError: no such file, or a line that is no JSON object; names the line.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise OrreryError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}") from None
    rows = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if torn:
                continue
            raise OrreryError(f"'{path}' line {number} is no JSON; mend or remove it") from None
        if not isinstance(row, dict):
            raise OrreryError(f"'{path}' line {number} is no JSON object; each line must be one")
        rows.append(row)
    return rows


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace the file by these rows, whole or not at all."""
    atomic_write(path, "".join(line_of(row) for row in rows))


class RowLog:
    """A file that rows are appended to. One process writes it at a time; a second one that tries is refused.

    Raises:
        OrreryError: the file cannot be written, or another process has it open.
    """

    def __init__(self, path: str | Path) -> None:
        import fcntl

        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            taken = isinstance(error, BlockingIOError)
            why = "another process is writing it" if taken else error.strerror
            raise OrreryError(f"cannot append to '{self.path}': {why}; choose another file") from None
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; when this returns it is on the disk."""
        line = ("\n" if self._torn else "") + line_of(row)
        data = line.encode()
        self._torn = True  # until all of it is there
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self._torn = False

    def close(self) -> None:
        """Let others write it."""
        os.close(self._file)


def line_of(row: Mapping[str, Any]) -> str:
    """A row as its line. Half a character (a lone surrogate, which UTF-8 cannot hold) is written as its escape."""
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(row)
    return text + "\n"
