"""What a run writes down step by step: JSON lines that a kill, a full disk and a resume leave in order.

`metrics.jsonl`, `events.jsonl` and `samples.jsonl` are journals. Every line carries the `step` it belongs to (from 0),
so a run that goes on from a checkpoint drops the lines of steps it will do again, and the file ends up as an unbroken
run would have written it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write

FLUSH_S = 1.0


class Journal:
    """Append-only JSON lines. A write that fails (full disk) is kept in memory and tried again; nothing is half written.

    Args:
        path: the file; made if it is not there.
        resume_at: lines of this step and later ones are dropped first, atomically.

    Raises:
        OrreryError: the file cannot be opened for writing.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        self.path = path
        _drop_from(path, resume_at)
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise OrreryError(f"cannot write '{path}': {error.strerror}; choose another folder") from error
        self._size = os.fstat(self._file).st_size
        self._pending: list[bytes] = []
        self._flushed = time.monotonic()
        self.failed: str | None = None
        """Why the last flush did not succeed; None when it did."""

    def write(self, record: dict[str, Any]) -> None:
        """Add one line; it reaches the file within a second of training, at `flush`, or at `close`."""
        self._pending.append(
            (json.dumps({k: _plain(v) for k, v in record.items()}, allow_nan=False) + "\n").encode()
        )
        if time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self, *, durable: bool = False) -> None:
        """Hand the lines to the system; `durable` also waits until the disk has them. Sets `failed`, never raises."""
        self._flushed = time.monotonic()
        data = b"".join(self._pending)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if durable:
                os.fsync(self._file)
        except OSError as error:
            self.failed = error.strerror or str(error)
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
        else:
            self.failed = None
            self._size += len(data)
            self._pending.clear()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        os.close(self._file)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Every whole line; what a crash tore is left out."""
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict)]


def _drop_from(path: Path, step: int) -> None:
    """Rewrite the file without torn lines and without lines of `step` and later."""
    kept = [record for record in read_journal(path) if record.get("step", 0) < step]
    data = "".join(json.dumps(record) + "\n" for record in kept).encode()
    if path.is_file() and path.read_bytes() != data:
        atomic_write(path, data)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
