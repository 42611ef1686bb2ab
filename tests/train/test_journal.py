"""JSON lines that a kill, a full disk and a resume leave in order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orrery.kit.errors import OrreryError
from orrery.train import journal as journal_module
from orrery.train.journal import Journal, read_journal


def test_lines_come_back_and_floats_keep_every_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "m.jsonl")
    records = [{"step": step, "loss": 0.1 * step, "text": "ä\n"} for step in range(5)]
    for record in records:
        journal.write(record)
    assert read_journal(tmp_path / "m.jsonl") == []  # not yet flushed: a second has not passed
    journal.close()
    assert read_journal(tmp_path / "m.jsonl") == records


def test_it_is_flushed_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(journal_module.time, "monotonic", lambda: clock[0])
    journal = Journal(tmp_path / "m.jsonl")
    journal.write({"step": 0})
    clock[0] = 1.1
    journal.write({"step": 1})
    assert [line["step"] for line in read_journal(tmp_path / "m.jsonl")] == [0, 1]
    journal.close()


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "m.jsonl")
    journal.write({"step": 0, "loss": float("nan"), "grad_norm": float("inf")})
    journal.close()
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 0, "loss": null, "grad_norm": null}\n'


def test_lines_of_steps_to_be_done_again_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(
        "".join(json.dumps({"step": step}) + "\n" for step in range(6)) + "\x00\x00\n" + '{"step": 6, "lo'
    )
    Journal(path, resume_at=4).close()
    assert path.read_text() == "".join(json.dumps({"step": step}) + "\n" for step in range(4))


def test_a_file_in_order_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 0}\n')
    node = path.stat().st_ino
    Journal(path, resume_at=1).close()
    assert path.stat().st_ino == node


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_keeps_the_lines_until_there_is_room(tmp_path: Path) -> None:
    """TR-03, TR-25: the training never hears of it."""
    path = tmp_path / "m.jsonl"
    journal = Journal(path)
    journal.write({"step": 0})
    journal.flush()
    real, full = os.dup(journal._file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file)
    journal.write({"step": 1})
    journal.flush(durable=True)
    assert journal.failed == "No space left on device"
    os.dup2(real, journal._file)
    journal.write({"step": 2})
    journal.flush()
    assert journal.failed is None
    journal.close()
    assert [line["step"] for line in read_journal(path)] == [0, 1, 2]
    os.close(real)
    os.close(full)


def test_a_write_cut_short_leaves_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    journal = Journal(path)
    journal.write({"step": 0})
    journal.flush()
    write = os.write
    calls = 0

    def failing(file: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(file, data[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_module.os, "write", failing)
    journal.write({"step": 1})
    journal.flush()
    assert path.read_text() == '{"step": 0}\n'
    monkeypatch.undo()
    journal.close()
    assert path.read_text() == '{"step": 0}\n{"step": 1}\n'


def test_a_file_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    with pytest.raises(OrreryError, match="cannot write"):
        Journal(tmp_path / "m.jsonl")
