"""The rows of a task: read from files below a folder of data sets, or generated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.data.source import read_text
from orrery.evaluate import shapes
from orrery.evaluate.scorers import Unscored
from orrery.evaluate.task import Files, Generated, Join, Task
from orrery.evaluate.template import value
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file
from orrery.kit.json_lines import read_rows as read_lines

SHOTS_SEED = 1 << 20
"""Added to a generator's seed for demonstrations, which are not to be among the questions."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question.

    Attributes:
        id: its place in the data, kept under any limit. key: a hash of its fields, by which two results know the same question.
        unscored: why it cannot be asked at all; empty where it can.
    """

    id: int
    fields: Mapping[str, Any]
    key: str
    unscored: str = ""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The questions, the rows demonstrations come from, and the files they were read from, by path below the folder: SHA-256."""

    rows: tuple[Row, ...]
    shots: tuple[Mapping[str, Any], ...]
    files: Mapping[str, str]


def read_rows(task: Task, folder: Path | None, *, limit: int | None = None) -> Rows:
    """The rows of a task, `limit` of them at most, spread evenly over the data so that every part of it is asked about.

    Raises:
        OrreryError: files are missing or damaged, or there is no row.
    """
    if isinstance(task.data, Generated):
        n = task.data.n if limit is None else min(limit, task.data.n)
        rows, shots, files = _generated(task.data, n, 0), _generated(task.data, task.shots, SHOTS_SEED), {}
    else:
        source = _Source(task.name, task.data, folder)
        rows, shots = (
            source.rows(task.data.path, task.data.keep),
            source.rows(task.data.shots, task.data.keep_shots),
        )
        files = source.files
    if not rows:
        raise OrreryError(f"the task '{task.name}' has no rows: nothing in its data passes 'keep'")
    if not shots:
        shots = [row for row in rows if not isinstance(row, Unscored)]
    places = range(len(rows)) if limit is None else spread(len(rows), limit)
    return Rows(
        rows=tuple(_row(i, rows[i]) for i in places),
        shots=tuple(row for row in shots if not isinstance(row, Unscored)),
        files=files,
    )


def spread(n: int, limit: int) -> list[int]:
    """At most `limit` places of 0 .. n - 1, evenly apart, the first among them."""
    if limit < 1:
        raise OrreryError(f"a limit of {limit} rows leaves nothing to ask; give 1 or more")
    return list(range(n)) if limit >= n else [i * n // limit for i in range(limit)]


def shots_of(task: Task, rows: Rows, row: Row, *, count: int, seed: int) -> list[Mapping[str, Any]]:
    """The demonstrations before one row: never the row itself.

    Raises:
        OrreryError: there are not so many.
    """
    same, field = rows.shots, task.shots_by
    if field:
        same = tuple(shot for shot in same if shot.get(field) == row.fields.get(field))
    others = [shot for shot in same if shot != row.fields]
    if len(others) < count:
        of = f" with {field} '{row.fields.get(field)}'" if field else ""
        raise OrreryError(
            f"the task '{task.name}' has {len(others)} rows{of} to demonstrate with, {count} are wanted; ask with --shots {len(others)}"
        )
    if task.shots_from == "first":
        return others[:count]
    order = sorted(range(len(others)), key=lambda i: digest([seed, row.key, i], 16))
    return [others[i] for i in order[:count]]


def _row(place: int, fields: Mapping[str, Any] | Unscored) -> Row:
    if isinstance(fields, Unscored):
        return Row(id=place, fields={}, key="", unscored=fields.reason)
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, default=str)
    return Row(id=place, fields=fields, key=hashlib.sha256(text.encode()).hexdigest()[:16])


def _generated(data: Generated, n: int, shift: int) -> list[Mapping[str, Any] | Unscored]:
    from orrery.evaluate import generators

    made = generators.rows(
        data.generator, n=n, seed=data.seed + shift, difficulty=data.difficulty, **data.settings
    )
    return list(made)


def _records(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; any other text file is one row, {"id", "text"}."""
    if ".jsonl" in path.suffixes[-2:]:
        return read_lines(path)
    return [{"id": path.name, "text": read_text(path)}]


class _Source:
    """The files of one task."""

    def __init__(self, task: str, data: Files, folder: Path | None) -> None:
        if folder is None:
            raise OrreryError(
                f"the task '{task}' reads {self._wanted(data)}; give their folder with --data DIR"
            )
        self.task, self.data, self.folder = task, data, Path(folder)
        self.files: dict[str, str] = {}
        joins = (data.join,) if isinstance(data.join, Join) else data.join
        self.joins = [(join, self._table(join)) for join in joins]

    def rows(self, paths: str | Sequence[str], keep: str) -> list[Mapping[str, Any] | Unscored]:
        """Rows of files, with their fields renamed and joined, shaped, and those left out that are not wanted."""
        shape = shapes.find(self.data.shape) if self.data.shape else None
        found: list[Mapping[str, Any] | Unscored] = []
        for raw in self._read((paths,) if isinstance(paths, str) else paths):
            row = dict(raw)
            for new, old in self.data.fields.items():
                if old not in row:
                    raise OrreryError(
                        f"the task '{self.task}' reads the field '{old}'; a row has only {', '.join(raw)}"
                    )
                row[new] = row.pop(old)
            for join, table in self.joins:
                more = table.get(json.dumps(row.get(join.on)), {})
                row = {**row, join.name: more} if join.name else {**more, **row}
            shaped = row if shape is None else shape(row)
            if isinstance(shaped, Unscored) or not keep or value(keep, shaped):
                found.append(shaped)
        return found

    def _table(self, join: Join) -> dict[str, Mapping[str, Any]]:
        return {json.dumps(row.get(join.on)): row for row in self._read((join.path,))}

    def _read(self, patterns: Sequence[str]) -> Iterator[dict[str, Any]]:
        for pattern in patterns:
            paths = sorted(self.folder.glob(pattern))
            if not paths:
                raise OrreryError(
                    f"the task '{self.task}' reads {self._wanted(self.data)}; there is no '{pattern}' in '{self.folder}'"
                )
            for path in paths:
                self.files[path.relative_to(self.folder).as_posix()] = sha256_file(path)
                yield from _records(path)

    @staticmethod
    def _wanted(data: Files) -> str:
        paths = ", ".join((data.path,) if isinstance(data.path, str) else data.path)
        return f"'{paths}'" + (f" (made from the hub's data set {data.hub})" if data.hub else "")
