"""`orrery tune recipes/rl.yaml rl.workers=2`: the verb with two local workers, whose model is that of one process, bit for bit."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from orrery.kit.files import sha256_file
from orrery.kit.json_lines import read_rows
from orrery.model.lowbit import backend
from orrery.serve.find import find_model

from .conftest import Orrery

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install 'orrery-lm[cluster]'",
    ),
]


def test_the_verb_with_workers(orrery: Orrery, small_run: Path, tmp_path: Path) -> None:
    settings = (
        "rl.heldout=4", "rl.rollout.prompts=3", "rl.rollout.responses=2", "loop.minutes=null", "loop.steps=3",
        "rl.off_policy_steps=1", "rl.correction={}", "rl.keep_rollouts=true",
    )  # fmt: skip
    models = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        done = orrery(
            "tune", "recipes/rl.yaml", f"base={small_run}", *settings, f"rl.workers={workers}", "--out", out
        )
        assert done.returncode == 0, done.stderr
        assert "ray" not in (done.stderr + done.stdout).lower()
        models.append(find_model(out))
    if backend() == "c++":
        one, two = (sha256_file(model / "model.safetensors") for model in models)
        assert one == two
    line = read_rows(models[1] / "metrics.jsonl")[-1]
    assert 0 < line["correction_share"] <= 1 and line["sampler_ratio_max"] > 0
    # What was drawn is there to be learned from again.
    work = next((tmp_path / "2").glob("rl-*.work"))
    assert [path.name for path in sorted((work / "rollouts").iterdir())] == [
        "000000.jsonl",
        "000001.jsonl",
        "000002.jsonl",
    ]
    again = orrery(
        "tune", "recipes/rl.yaml", f"base={small_run}", "rl.heldout=4", "rl.rollout.prompts=2", "rl.rollout.responses=2",
        "loop.minutes=null", "loop.steps=1", "rl.correction={}", f"rl.replay={{paths: ['{work}/rollouts/*.jsonl'], prompts: 2}}",
        "--out", tmp_path / "again",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert read_rows(find_model(tmp_path / "again") / "metrics.jsonl")[0]["replayed"] == 4
