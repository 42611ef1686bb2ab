"""A process that dies at any one file operation of a save leaves a complete checkpoint, and goes on to the same bits."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from forge import Forge
from training_run import trace

from orrery.train.checkpoint import Checkpoints

STEPS, EVERY = 6, 2
SETTINGS = {
    "steps": STEPS,
    "validate_every": None,
    "sample_every": 2,
    "checkpoint": {"every_steps": EVERY, "every_seconds": None, "keep_last": 1},
}


def job(out: Path, **more: Any) -> dict[str, Any]:
    return {"out": str(out), "config": SETTINGS, **more}


def crash_everywhere(forge: Forge, folder: Path, *, halfway: bool, stride: int = 1, **more: Any) -> int:
    """Crash at operation 0, `stride`, 2 `stride` ...; after each look at what is there, and go on. How many crashed."""
    assert forge.run(job(folder / "unbroken", **more)) == 0
    expected = trace(folder / "unbroken")
    for at in itertools.count(0, stride):
        out = folder / f"crash-{at}"
        status = forge.run(job(out, crash_at=at, halfway=halfway, **more))
        if status == 0:
            return at // stride
        assert status == 9
        kept = Checkpoints(out / "checkpoints")
        steps, newest = kept.steps(), kept.newest()  # raises if one that is listed is not whole
        assert kept.found_damaged == []
        assert newest is not None if steps else newest is None
        assert forge.run(job(out, **more)) == 0
        assert trace(out) == expected
        assert kept.steps() == [STEPS] and not list((out / "checkpoints").glob(".*"))
        shutil.rmtree(out)
    raise AssertionError


def test_a_crash_at_each_file_operation_of_a_run(forge: Forge, tmp_path: Path) -> None:
    """TR-02, TR-23: run.json, three checkpoints and the removal of the first two, at every fourth operation."""
    assert crash_everywhere(forge, tmp_path, halfway=True, stride=4) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dense", "moe"])
@pytest.mark.parametrize("halfway", [False, True])
def test_a_crash_at_every_file_operation_of_a_run(
    forge: Forge, tmp_path: Path, model: str, halfway: bool
) -> None:
    """TR-02, TR-23: at every single one."""
    assert crash_everywhere(forge, tmp_path, halfway=halfway, model=model) >= 40
