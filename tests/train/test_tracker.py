"""A tracker that is down, slow or missing leaves the training alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from training_run import config, go, trace

from orrery.kit.errors import MissingExtra
from orrery.train import run as run_module
from orrery.train import tracker as tracker_module
from orrery.train.tracker import Tracker, trackio_tracker


class Memory:
    """A backend that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, Any]]] = []
        self.finished = False

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.records.append((step, metrics))

    def finish(self) -> None:
        self.finished = True


def test_numbers_arrive_in_order() -> None:
    memory, said = Memory(), []
    tracker = Tracker(lambda: memory, say=said.append)
    for step in range(50):
        tracker.log({"loss": step / 2, "why": "text"}, step)
    tracker.close()
    assert memory.records == [(step, {"loss": step / 2}) for step in range(50)]
    assert memory.finished and said == [] and tracker.dropped == 0


def test_a_backend_that_fails_is_told_once() -> None:
    """TR-25."""

    class Down(Memory):
        def log(self, metrics: dict[str, Any], step: int) -> None:
            raise ConnectionError("no route")

    said: list[str] = []
    tracker = Tracker(Down, say=said.append)
    for step in range(20):
        tracker.log({"loss": 1.0}, step)
        time.sleep(0.002)
    tracker.close()
    assert len(said) == 1 and "ConnectionError: no route" in said[0]


def test_a_backend_that_hangs_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """TR-25: the queue fills, records are dropped, and the end does not wait for long."""
    monkeypatch.setattr(tracker_module, "CLOSE_S", 0.1)
    monkeypatch.setattr(tracker_module, "QUEUE", 8)
    free = threading.Event()

    class Hanging(Memory):
        def log(self, metrics: dict[str, Any], step: int) -> None:
            free.wait(20)

    said: list[str] = []
    began = time.monotonic()
    tracker = Tracker(Hanging, say=said.append)
    for step in range(100):
        tracker.log({"loss": 1.0}, step)
    tracker.close()
    assert time.monotonic() - began < 5
    assert len(said) == 1 and "too slow" in said[0] and tracker.dropped >= 90
    free.set()


def test_a_run_with_a_tracker_that_is_down_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(**_: Any) -> Tracker:
        def fail() -> Memory:
            raise OSError("the disk of the tracker is full")

        return Tracker(fail, say=lambda _: None)

    monkeypatch.setattr(run_module, "trackio_tracker", down)
    go(tmp_path / "plain", config(steps=8))
    go(tmp_path / "tracked", config(steps=8, track="project"))
    assert trace(tmp_path / "plain") == trace(tmp_path / "tracked")


def test_a_missing_package_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'orrery-lm\[track\]'"):
        go(tmp_path, config(track="project"))


@pytest.mark.slow
def test_trackio_itself(tmp_path: Path) -> None:
    """In a process of its own: records land in trackio's local database, and stdout stays the command's."""
    pytest.importorskip("trackio", reason="the extra `track` is not installed")
    here = Path(__file__)
    script = f"""
import sys
sys.path[:0] = [{str(here.parent)!r}, {str(here.parents[2])!r}]
from pathlib import Path
from training_run import *
if __name__ == "__main__":
    go(Path({str(tmp_path / "run")!r}), config(steps=12, track="orrery-test"))
"""
    (tmp_path / "script.py").write_text(script)
    env = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == ""
    (database,) = (tmp_path / "trackio").glob("*.db")
    rows = sqlite3.connect(database).execute("select step, metrics from metrics order by step").fetchall()
    assert [row[0] for row in rows] == list(range(12)) and "loss" in str(rows[0][1])


def test_opening_trackio_needs_it_installed() -> None:
    pytest.importorskip("trackio", reason="the extra `track` is not installed")
    assert callable(trackio_tracker)
