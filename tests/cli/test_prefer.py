"""`orrery tune` with a recipe of kind prefer: from a finished model to one that prefers; killed anywhere, it goes on to the same bits."""

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
from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import read_receipt, verify
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file
from orrery.kit.json_lines import write_rows
from orrery.serve.find import find_model, run_stages

from .conftest import Orrery


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_rows(
        path,
        [
            {"prompt": f"the cat saw the dog {n}", "chosen": "the cat", "rejected": "the dog sat"}
            for n in range(24)
        ],
    )
    return path


def recipe(base: Path, pairs: Path, **changes: Any) -> dict[str, Any]:
    loop = {
        "steps": 4,
        "precision": "fp32",
        "optimizer": {"kind": "adamw", "lr": 1e-3},
        "checkpoint": {"every_steps": 1, "every_seconds": None},
    }
    return {
        "kind": "prefer", "base": str(base), "data": [{"paths": [pairs.name]}], "data_root": str(pairs.parent), "heldout": 0.25,
        "loader": {"context": 64, "pairs": 4}, **changes, "loop": loop | changes.get("loop", {}),
    }  # fmt: skip


@pytest.mark.parametrize("loss", ["dpo", "kto", "orpo"])
def test_a_model_that_prefers(small_run: Path, pairs: Path, tmp_path: Path, loss: str) -> None:
    run = single_stage(recipe(small_run, pairs, loss={"kind": loss}), [], kind="prefer", out=tmp_path / "run")
    folder = find_model(run)
    receipt = read_receipt(folder)
    assert receipt.kind == "model" and receipt.operation == "prefer" and verify(folder) == []
    assert [(parent.role, parent.operation) for parent in receipt.parents] == [("model", "train")]
    effects = receipt.effects
    before, after = effects["preferences"]["before"], effects["preferences"]["after"]
    assert after["loss"] < before["loss"] and effects["kl_to_parent"] > 0 and effects["steps"] == 4
    count = effects["comparisons"]["pairs"] + effects["heldout_comparisons"]
    assert count == (48 if loss == "kto" else 24)
    sample = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    assert "the cat saw the dog" in sample["text"]
    assert package.load(run).generate([{"role": "user", "content": "the cat"}], max_tokens=3).ids


def test_an_adapter_that_prefers(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    made = recipe(small_run, pairs, adapter={"kind": "lora", "rank": 4}, epochs=1)
    folder = find_model(single_stage(made, [], kind="prefer", out=tmp_path / "run"))
    receipt = read_receipt(folder)
    assert receipt.kind == "adapter" and receipt.effects["trained"] < receipt.effects["parameters"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == receipt.effects["steps"] == -(-receipt.effects["comparisons"]["pairs"] // 4)
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-5)


def test_its_own_answers_ranked_by_a_checker(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    """A model that has begun to say what is preferred goes on by itself, in the same run."""
    first = {
        **recipe(
            small_run,
            pairs,
            loss={"kind": "orpo"},
            loop={"steps": 12, "optimizer": {"kind": "adamw", "lr": 1e-2}},
        ),
        "name": "first",
    }
    write_rows(
        tmp_path / "asked.jsonl",
        [{"question": f"the cat saw the dog {n}", "answer": "cat"} for n in range(12)],
    )
    asked = {"paths": [str(tmp_path / "asked.jsonl")], "score": "contains"}
    online = {"problems": [asked], "heldout": 4, "prompts": 8, "answers": 8, "max_tokens": 6}
    second = {**recipe(small_run, pairs, data=[], online=online), "base": "first"}
    out = run_recipe({"name": "two", "stages": [first, second]}, [], out=tmp_path / "run")
    effects = read_receipt(find_model(out)).effects
    assert (
        len(effects["score"]["rounds"]) == 1
        and 0 <= effects["score"]["after"] <= 1
        and effects["problems"] == 4
    )


def test_in_a_list_of_stages_and_made_again_only_for_a_reason(
    small_run: Path, pairs: Path, tmp_path: Path
) -> None:
    second = {**recipe(small_run, pairs, loss={"kind": "simpo"}), "name": "second", "base": "first"}
    whole = {
        "name": "two",
        "data_root": str(pairs.parent),
        "stages": [{**recipe(small_run, pairs), "name": "first", "data_root": ""}, second],
    }
    out = run_recipe(whole, [], out=tmp_path / "run")
    ids = [read_receipt(folder).id for _, folder in run_stages(out)]
    assert len(ids) == 2
    assert [read_receipt(folder).id for _, folder in run_stages(run_recipe(whole, [], out=out))] == ids
    write_rows(
        pairs.with_name("pairs.jsonl"),
        [{"prompt": f"the cat saw {n}", "chosen": "the cat", "rejected": "a dog"} for n in range(24)],
    )
    assert read_receipt(run_stages(run_recipe(whole, [], out=out))[-1][1]).id != ids[-1]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bits(
    small_run: Path, pairs: Path, tmp_path: Path
) -> None:
    made = recipe(small_run, pairs, loss={"kind": "kto"}, loop={"steps": 60})
    whole = find_model(single_stage(made, [], kind="prefer", out=tmp_path / "whole"))
    out, file = tmp_path / "killed", tmp_path / "recipe.json"
    file.write_text(json.dumps(made))
    code = (
        "import json, torch; torch.set_num_threads(1); from orrery.cli.pipeline.single import single_stage; "
        f"single_stage(json.load(open({str(file)!r})), [], kind='prefer', out={str(out)!r})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 240
    while not list(out.glob("prefer-*.work/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL
    resumed = find_model(single_stage(made, [], kind="prefer", out=out))
    assert sha256_file(resumed / "model.safetensors") == sha256_file(whole / "model.safetensors")


@pytest.mark.slow
def test_the_verb(orrery: Orrery, small_run: Path, pairs: Path, tmp_path: Path) -> None:
    done = orrery(
        "tune", "recipes/dpo.yaml", f"base={small_run}", "online=null", f"data=[{{paths: [{pairs}]}}]", "heldout=0.25", "loop.steps=2",
        "loader.context=64", "loader.pairs=4", "loss.kind=ipo", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "held-out comparisons rightly" in done.stderr and "wrote the model" in done.stderr


def test_settings_that_mean_nothing(small_run: Path, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="nothing to learn from; give data"):
        single_stage(recipe(small_run, pairs, data=[]), [], kind="prefer", out=tmp_path / "run")
    with pytest.raises(OrreryError, match="longer than the model's context"):
        single_stage(
            recipe(small_run, pairs, loader={"context": 10_000}), [], kind="prefer", out=tmp_path / "run"
        )
