"""What a run says: to a person (rich, on stderr) and to a file (JSON lines)."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast

from rich.console import Console


class Stderr:
    """Standard error as it is when it is written to; what it cannot take (a full disk) is lost, and is no reason to end a run."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        try:
            return sys.stderr.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            sys.stderr.flush()
        except OSError:
            return


console = Console(file=cast("IO[str]", Stderr()))


class Progress(Protocol):
    """Somebody who wants to know how far a long piece of work is."""

    def update(self, done: float, total: float | None, **fields: Any) -> None:
        """`done` of `total` units (None: unknown); `fields` are shown beside (loss=..., tokens_per_s=...)."""


class Silent:
    """The Progress that shows nothing."""

    def update(self, done: float, total: float | None, **fields: Any) -> None:
        return None


class MetricsLog:
    """Append-only JSON lines; flushed at least once a second, and on close."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed with the object)
        self._flushed = time.monotonic()

    def write(self, record: dict[str, Any]) -> None:
        self._handle.write(json.dumps(record) + "\n")
        if time.monotonic() - self._flushed > 1.0:
            self.flush()

    def flush(self) -> None:
        self._handle.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Every whole line of a JSON-lines file; a last line cut by a crash is left out."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line.strip()]
