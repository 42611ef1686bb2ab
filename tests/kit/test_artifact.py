"""Receipts: identity, lineage, and finding what was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.kit.artifact import RECEIPT, lineage, read_receipt, verify, write_receipt
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, write_file


def make(path: Path, text: str, parents: dict[str, Path] | None = None, **recipe: int) -> None:
    with atomic_folder(path) as new:
        write_file(new / "data.txt", text)
        write_receipt(
            new, kind="thing", operation="make", recipe=recipe, parents=parents, home=path, effects={"n": 1}
        )


def test_equal_settings_and_bytes_give_equal_ids(tmp_path) -> None:
    make(tmp_path / "a", "x", seed=1)
    make(tmp_path / "b", "x", seed=1)
    make(tmp_path / "c", "y", seed=1)
    make(tmp_path / "d", "x", seed=2)
    ids = [read_receipt(tmp_path / n).id for n in "abcd"]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_lineage_follows_parents_and_marks_what_changed(tmp_path) -> None:
    make(tmp_path / "text", "t")
    make(tmp_path / "data", "d", {"text": tmp_path / "text"})
    make(tmp_path / "model", "m", {"data": tmp_path / "data", "text": tmp_path / "text"})
    tree = lineage(tmp_path / "model")
    assert [(a.depth, a.role, a.state) for a in tree] == [
        (0, "", "here"),
        (1, "data", "here"),
        (2, "text", "here"),
        (1, "text", "here"),
    ]
    make(tmp_path / "text", "other")
    (tmp_path / "model" / "data.txt").write_text("tampered")
    states = {(a.depth, a.role): a.state for a in lineage(tmp_path / "model")}
    assert states[(0, "")] == "changed since it was made"
    assert states[(1, "text")] == "replaced by another"
    assert verify(tmp_path / "model") == ["data.txt"]


def test_a_missing_or_damaged_receipt_is_one_sentence(tmp_path) -> None:
    with pytest.raises(OrreryError, match="not made by orrery"):
        read_receipt(tmp_path)
    for damaged in ("", "{", "[]", '{"format": 1}', '{"format": 1, "parents": 3}'):
        (tmp_path / RECEIPT).write_text(damaged)
        with pytest.raises(OrreryError, match="damaged"):
            read_receipt(tmp_path)
    (tmp_path / RECEIPT).write_text('{"format": 99, "parents": []}')
    with pytest.raises(OrreryError, match="another version"):
        read_receipt(tmp_path)
