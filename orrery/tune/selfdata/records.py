"""What was said so far, on the disk as soon as it is said: a run that is killed anywhere goes on from its records.

A record is named by what was asked (which work, which prompt, which round), never by when; so the order in which an engine finishes
requests does not matter, and a repeated run reads what it said before instead of saying it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import RowLog, read_rows

Name = tuple[str | int, ...]


class Records:
    """Rows by name; in the file `path`, or in memory where there is none.

    Args:
        run: what the records are of (a digest of settings, model and prompts).

    Raises:
        OrreryError: the file holds the records of something else, or another process is writing it.
    """

    def __init__(self, path: Path | None = None, *, run: str = "") -> None:
        self.path, self.reused = path, 0
        self._rows: dict[Name, dict[str, Any]] = {}
        self._log = None if path is None else RowLog(path)
        if path is None:
            return
        rows = read_rows(path, torn=True)
        if rows and rows[0].get("run") != run:
            self.close()
            raise OrreryError(
                f"'{path}' holds what another model or other settings made; take another folder, or remove it"
            )
        if not rows and self._log is not None:
            self._log.append({"run": run})
        self._rows = {tuple(row["of"]): row["row"] for row in rows[1:]}
        self.reused = len(self._rows)

    def get(self, name: Name) -> dict[str, Any] | None:
        """The record of that name."""
        return self._rows.get(name)

    def put(self, name: Name, row: Mapping[str, Any]) -> None:
        """Keep a record; when this returns it is on the disk."""
        self._rows[name] = dict(row)
        if self._log is not None:
            self._log.append({"of": list(name), "row": row})

    def close(self) -> None:
        """Let others write the file."""
        if self._log is not None:
            self._log.close()
            self._log = None
