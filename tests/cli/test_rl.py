"""`orrery tune` with a recipe of kind rl: from a finished model to one that practised; killed anywhere, it goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import orrery as package
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import read_receipt, verify
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file
from orrery.kit.json_lines import write_rows
from orrery.serve.find import find_model

from .conftest import Orrery


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "animals.jsonl"
    write_rows(path, [{"question": f"the cat saw the dog {n}", "answer": "cat"} for n in range(12)])
    return path


def recipe(base: Path, problems: Path, **changes: Any) -> dict[str, Any]:
    loop = {"steps": 3, "precision": "fp32", "checkpoint": {"every_steps": 1, "every_seconds": None}}
    return {
        "kind": "rl",
        "base": str(base),
        "data_root": str(problems.parent),
        "rl": {
            "problems": [{"paths": [problems.name], "score": "contains"}], "heldout": 4,
            "rollout": {"prompts": 2, "responses": 4, "max_tokens": 6}, **changes.pop("rl", {}),
        },
        **changes,
        "loop": loop | changes.get("loop", {}),
    }  # fmt: skip


def test_a_model_that_practised(small_run: Path, problems: Path, tmp_path: Path) -> None:
    run = single_stage(recipe(small_run, problems), [], kind="rl", out=tmp_path / "run")
    folder = find_model(run)
    receipt = read_receipt(folder)
    assert receipt.kind == "model" and receipt.operation == "reinforce" and verify(folder) == []
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [("model", "train")]
    effects = receipt.effects
    assert effects["accuracy"]["problems"] == 4 and effects["problems"] == {
        "learned": 8,
        "drawn": 6,
        "unsound": 0,
    }
    assert effects["steps"] == 3 and effects["last"]["first_ratio"] == 0.0
    assert {"metrics.jsonl", "samples.jsonl", "events.jsonl"} <= {path.name for path in folder.iterdir()}
    sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert "the cat saw the dog" in sample["text"] and "right answer: cat" in sample["text"]
    assert package.load(run).generate([{"role": "user", "content": "the cat"}], max_tokens=3).ids


@pytest.mark.parametrize("adapter", [{"kind": "lora", "rank": 4}, {"kind": "prompt", "tokens": 2}])
def test_an_adapter_that_practised(
    small_run: Path, problems: Path, tmp_path: Path, adapter: dict[str, Any]
) -> None:
    made = recipe(
        small_run, problems, adapter=adapter, rl={"kl": {"beta": 0.1}, "algorithm": {"kind": "ppo"}}
    )
    folder = find_model(single_stage(made, [], kind="rl", out=tmp_path / "run"))
    receipt = read_receipt(folder)
    assert receipt.kind == "adapter" and receipt.effects["trained"] < receipt.effects["parameters"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kl_start"] == pytest.approx(0, abs=1e-6 if adapter["kind"] == "lora" else 9)
    assert all(line["first_ratio"] == 0.0 and line["engine_gap"] < 1e-4 for line in lines)
    assert package.load(folder).generate([{"role": "user", "content": "the cat"}], max_tokens=3).ids


def test_what_changes_is_done_again_and_nothing_else(small_run: Path, problems: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = find_model(single_stage(recipe(small_run, problems), [], kind="rl", out=out))
    before = first.stat().st_mtime_ns
    assert (
        find_model(single_stage(recipe(small_run, problems), [], kind="rl", out=out)).stat().st_mtime_ns
        == before
    )
    single_stage(recipe(small_run, problems), ["rl.algorithm.kind=rloo"], kind="rl", out=out)
    assert len(list(out.glob("rl-*/orrery.json"))) == 2
    with pytest.raises(OrreryError, match="a learned reward needs both"):
        single_stage(
            recipe(small_run, problems, rl={"rewards": [{"kind": "learned"}]}), [], kind="rl", out=out
        )


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(
    small_run: Path, problems: Path, tmp_path: Path
) -> None:
    made = recipe(small_run, problems, rl={"algorithm": {"kind": "ppo"}}, loop={"steps": 40})
    whole = find_model(single_stage(made, [], kind="rl", out=tmp_path / "whole"))
    out, file = tmp_path / "killed", tmp_path / "recipe.json"
    file.write_text(json.dumps(made))
    code = (
        "import json, torch; torch.set_num_threads(1); from orrery.cli.pipeline.single import single_stage; "
        f"single_stage(json.load(open({str(file)!r})), [], kind='rl', out={str(out)!r})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("rl-*.work/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    resumed = find_model(single_stage(made, [], kind="rl", out=out))
    assert sha256_file(resumed / "model.safetensors") == sha256_file(whole / "model.safetensors")


@pytest.mark.slow
def test_the_verb(orrery: Orrery, small_run: Path, tmp_path: Path) -> None:
    done = orrery(
        "tune", "recipes/rl.yaml", f"base={small_run}", "rl.heldout=4", "rl.rollout.prompts=2", "rl.rollout.responses=2",
        "loop.minutes=null", "loop.steps=2", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held-out problems" in done.stderr and "wrote the model" in done.stderr
