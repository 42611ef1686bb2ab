"""One record of a file of records: its text field, and what happens to a record that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError, suggest

BAD_LINES = 20
"""How many bad lines or rows of one file are told one by one; the rest is counted."""


class LeftOut:
    """Bad lines or rows of one file: the first few are told, the rest is counted and told at the end."""

    def __init__(self, path: Path, tell: Callable[[str, OrreryError], None] | None) -> None:
        self.path, self.tell, self.count = path, tell, 0

    def __call__(self, place: int, error: OrreryError) -> None:
        """
        Raises:
            OrreryError: `error`, when bad lines stop the run.
        """
        if self.tell is None:
            raise error
        self.count += 1
        if self.count <= BAD_LINES:
            self.tell(f"{self.path}:{place}", error)

    def end(self) -> None:
        """Tell how many there were beyond those told."""
        more = self.count - BAD_LINES
        if self.tell is not None and more > 0:
            self.tell(
                str(self.path), OrreryError(f"'{self.path}': {more:,} more lines or rows could not be read")
            )


def text_of(record: dict[str, Any], field: str, where: str) -> str:
    """The text of one record.

    Raises:
        OrreryError: there is no such field (names those there are), or it is not text.
    """
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
