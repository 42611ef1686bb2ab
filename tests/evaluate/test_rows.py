from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from orrery.evaluate import shapes
from orrery.evaluate.rows import read_rows, shots_of, spread
from orrery.evaluate.scorers import Unscored
from orrery.evaluate.task import Task
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError


def task(**changes: Any) -> Task:
    base = {
        "name": "t",
        "version": 1,
        "about": "x",
        "kind": "rolling",
        "target": "{{ text }}",
        "data": {"path": "a.jsonl"},
    }
    return resolve(Task, base | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"n": i, "text": f"text {i}", "part": "xy"[i % 2]} for i in range(10)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows[:4])) + "\n\n")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows[4:])
    (tmp_path / "more.jsonl").write_text(
        '{"part": "x", "hint": "even", "text": "no"}\n{"part": "y", "hint": "odd"}\n'
    )
    return tmp_path


def test_files_patterns_and_gzip(folder: Path) -> None:
    found = read_rows(task(data={"path": ["a.jsonl", "b*.jsonl*"]}), folder)
    assert [row.fields["n"] for row in found.rows] == list(range(10))
    assert [row.id for row in found.rows] == list(range(10))
    assert set(found.files) == {"a.jsonl", "b.jsonl.gz"} and len(found.files["a.jsonl"]) == 64
    assert len({row.key for row in found.rows}) == 10


def test_a_limit_is_spread_over_the_data_and_keeps_ids(folder: Path) -> None:
    found = read_rows(task(data={"path": "?.jsonl*"}), folder, limit=3)
    assert [(row.id, row.fields["n"]) for row in found.rows] == [(0, 0), (3, 3), (6, 6)]
    assert spread(3, 5) == [0, 1, 2]
    with pytest.raises(OrreryError, match="1 or more"):
        spread(3, 0)


def test_fields_are_renamed_joined_and_kept(folder: Path) -> None:
    data = {
        "path": "a.jsonl", "fields": {"number": "n"}, "keep": "{{ number > 0 }}",
        "join": [{"path": "more.jsonl", "on": "part"}, {"path": "more.jsonl", "on": "part", "name": "all"}],
    }  # fmt: skip
    rows = [row.fields for row in read_rows(task(data=data), folder).rows]
    assert [row["number"] for row in rows] == [1, 2, 3]
    assert [row["hint"] for row in rows] == ["odd", "even", "odd"]
    assert rows[1]["text"] == "text 2" and rows[1]["all"]["text"] == "no"  # the row's own field stays


def test_a_shape_may_say_why_a_row_cannot_be_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(row: Any) -> Any:
        return {"text": row["text"]} if row["n"] % 2 else Unscored("even")

    monkeypatch.setitem(shapes.SHAPES, "odd", odd)
    found = read_rows(task(data={"path": "a.jsonl", "shape": "odd"}), folder)
    assert [(row.unscored, dict(row.fields)) for row in found.rows[:2]] == [
        ("even", {}),
        ("", {"text": "text 1"}),
    ]


def test_demonstrations(folder: Path) -> None:
    made = task(data={"path": "a.jsonl", "shots": "b.jsonl.gz"}, shots_by="part")
    rows = read_rows(made, folder)
    assert [s["n"] for s in shots_of(made, rows, rows.rows[1], count=2, seed=0)] == [5, 7]
    with pytest.raises(
        OrreryError, match="3 rows with part 'y' to demonstrate with, 4 are wanted; ask with --shots 3"
    ):
        shots_of(made, rows, rows.rows[1], count=4, seed=0)
    own = task(data={"path": "a.jsonl"})
    rows = read_rows(own, folder)
    assert [s["n"] for s in shots_of(own, rows, rows.rows[0], count=3, seed=0)] == [1, 2, 3]  # never itself
    drawn = task(data={"path": "a.jsonl"}, shots_from="random")
    some = [[s["n"] for s in shots_of(drawn, rows, rows.rows[0], count=3, seed=seed)] for seed in range(8)]
    assert all(sorted(s) == [1, 2, 3] for s in some) and len({tuple(s) for s in some}) > 1
    assert some[0] == [s["n"] for s in shots_of(drawn, rows, rows.rows[0], count=3, seed=0)]


def test_generated_rows_and_their_demonstrations_differ() -> None:
    made = task(data={"generator": "arithmetic", "n": 30}, shots=5)
    rows = read_rows(made, None)
    assert len(rows.rows) == 30 and len(rows.shots) == 5 and rows.files == {}
    assert not {s["question"] for s in rows.shots} & {r.fields["question"] for r in rows.rows}
    assert [r.key for r in read_rows(made, None, limit=4).rows] == [r.key for r in rows.rows[:4]]


def test_what_is_missing_is_told(folder: Path) -> None:
    made = task(data={"path": "c.jsonl", "hub": "some/set"})
    with pytest.raises(
        OrreryError,
        match=r"reads 'c.jsonl' \(made from the hub's data set some/set\); give their folder with --data",
    ):
        read_rows(made, None)
    with pytest.raises(OrreryError, match=r"there is no 'c\.jsonl' in"):
        read_rows(made, folder)
    with pytest.raises(OrreryError, match="reads the field 'm'; a row has only n, text, part"):
        read_rows(task(data={"path": "a.jsonl", "fields": {"x": "m"}}), folder)
    with pytest.raises(OrreryError, match="nothing in its data passes 'keep'"):
        read_rows(task(data={"path": "a.jsonl", "keep": "{{ n > 99 }}"}), folder)
    (folder / "bad.jsonl").write_text('{"a": 1}\n[1]\n')
    with pytest.raises(OrreryError, match="line 2"):
        read_rows(task(data={"path": "bad.jsonl"}), folder)
    (folder / "bad.jsonl.gz").write_bytes(b"\x1f\x8b\x08 no")
    with pytest.raises(OrreryError, match=r"bad\.jsonl\.gz"):
        read_rows(task(data={"path": "bad.jsonl.gz"}), folder)
