"""A crash at any write, fsync or rename leaves the old thing or the new thing, never a part."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from orrery.kit import files
from orrery.kit.errors import OrreryError
from orrery.kit.files import FileOps, atomic_file, atomic_folder, atomic_write, sweep, write_file


class Crash(BaseException):
    """Stands for the end of the process."""


class CrashAt(FileOps):
    """Stops at call `k`; after that nothing runs any more, as after a kill."""

    def __init__(self, k: int) -> None:
        self.left = k

    def _count(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Crash

    def write(self, path: Path, data: bytes) -> None:
        self._count()
        super().write(path, data)

    def append(self, handle: BinaryIO, data: bytes | memoryview) -> None:
        self._count()
        super().append(handle, data)

    def fsync(self, path: Path) -> None:
        self._count()
        super().fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        if self.left > 0:
            super().remove(path)


def read(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(folder.iterdir())}


def save(path: Path, text: str) -> None:
    with atomic_folder(path) as new:
        write_file(new / "a", text)
        write_file(new / "b", text)


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_is_whole_after_a_crash_at_every_call(tmp_path, monkeypatch, exists: bool) -> None:
    finished = False
    for k in range(1, 30):
        path = tmp_path / str(k) / "model"
        if exists:
            save(path, "old")
        monkeypatch.setattr(files, "ops", CrashAt(k))
        try:
            save(path, "new")
            finished = True
        except Crash:
            pass
        monkeypatch.undo()
        if path.exists():
            assert read(path) in ([{"a": "old", "b": "old"}] if exists else []) + [{"a": "new", "b": "new"}]
        else:
            assert not exists
        sweep(path.parent)
        assert [p.name for p in path.parent.iterdir()] in ([], ["model"])
        if finished:
            assert read(path) == {"a": "new", "b": "new"}
            return
    pytest.fail("never finished")


def test_a_file_is_old_or_new_after_a_crash_at_every_call(tmp_path, monkeypatch) -> None:
    path = tmp_path / "state.json"
    seen = set()
    for k in range(1, 7):
        atomic_write(path, "old")
        monkeypatch.setattr(files, "ops", CrashAt(k))
        with contextlib.suppress(Crash):
            atomic_write(path, "new")
        monkeypatch.undo()
        seen.add(path.read_text())
    assert seen == {"old", "new"}


def test_a_file_written_in_pieces_is_old_or_new_after_a_crash_at_every_call(tmp_path, monkeypatch) -> None:
    path = tmp_path / "weights"
    seen = set()
    for k in range(1, 8):
        atomic_write(path, "old")
        monkeypatch.setattr(files, "ops", CrashAt(k))
        with contextlib.suppress(Crash), atomic_file(path) as write:
            write(b"n")
            write(memoryview(b"ew"))
        monkeypatch.undo()
        seen.add(path.read_text())
        sweep(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == ["weights"]
    assert seen == {"old", "new"}


def test_an_error_while_filling_leaves_nothing(tmp_path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "x") as new:
        write_file(new / "a", "1")
        raise RuntimeError("wrong")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_keeps_the_old_file(tmp_path, monkeypatch) -> None:
    class Full(FileOps):
        def write(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    path = tmp_path / "f"
    atomic_write(path, "old")
    monkeypatch.setattr(files, "ops", Full())
    with pytest.raises(OrreryError, match="No space left on device"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_read_only_folder_is_one_sentence(tmp_path) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
    else:
        blocked = tmp_path / "locked"
        blocked.mkdir(mode=0o500)
    with pytest.raises(OrreryError, match="cannot write"):
        atomic_write(blocked / "x", "1")
