"""How a run with workers ends: killed, told to stop, or by Ctrl-C; it goes on from its checkpoint, and no process stays."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.model.lowbit import backend
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.state import model_tensors

from .start import LOOP, config, run, taught

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install 'orrery-lm[cluster]'",
    ),
    pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="processes are looked for in /proc"),
]
ROOT = Path(__file__).resolve().parents[3]
STEPS = 60
SETTINGS: dict[str, Any] = {
    "off_policy_steps": 1, "correction": {}, "algorithm": {"kind": "ppo"}, "rollout": {"prompts": 4, "responses": 4, "max_tokens": 6},
}  # fmt: skip
CHILD = """
import sys, torch
from pathlib import Path
from tests.tune.rl.start import config, run, taught
from tests.tune.rl.test_workers_ends import SETTINGS, lessons
torch.set_num_threads(int(sys.argv[2]))
run(taught(), Path(sys.argv[1]), config(**SETTINGS, workers=2), lessons())
"""


def lessons() -> TrainConfig:
    every = CheckpointConfig(every_steps=2, every_seconds=None, keep_best=0)
    return dataclasses.replace(LOOP, steps=STEPS, checkpoint=every)


def descendants(pid: int) -> set[int]:
    """Processes below a process."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            below.setdefault(parent, []).append(int(path.parent.name))
    found, left = set(), [pid]
    while left:
        children = below.get(left.pop(), [])
        found |= set(children)
        left += children
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: set[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def workers_of(pids: set[int]) -> set[int]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Actor"):
                found.add(pid)
    return found


@pytest.mark.parametrize("how", ["ctrl-c", "killed"])
def test_it_goes_on_and_leaves_no_process(tmp_path: Path, how: str) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    threads = str(torch.get_num_threads())
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "ended"), threads], env=env, cwd=ROOT, start_new_session=True,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("ended/checkpoints/step-*")) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.01)
    below = descendants(child.pid)
    answering = workers_of(below)
    assert len(answering) == 2
    if how == "ctrl-c":
        os.killpg(child.pid, signal.SIGINT)  # a terminal tells all processes of the command
        _, said = child.communicate(timeout=120)
        assert "Interrupted: stopped after step" in said and "which is saved" in said
        assert gone(below, 10)
    else:
        child.kill()
        child.communicate(timeout=60)
        assert gone(answering, 30)  # two of Ray's own helpers look only once a minute
    assert gone({child.pid}, 1)
    whole, again = taught().lm(), taught().lm()
    straight = run(taught(), tmp_path / "whole", config(**SETTINGS), lessons(), whole)
    resumed = run(taught(), tmp_path / "ended", config(**SETTINGS, workers=0), lessons(), again)
    assert resumed.resumed_from is not None and 0 < resumed.resumed_from < STEPS
    assert (straight.drawn, straight.sampled) == (resumed.drawn, resumed.sampled)
    if backend() == "c++":
        one, other = model_tensors(whole.model), model_tensors(again.model)
        assert all(torch.equal(one[name], other[name]) for name in one)
