"""Every recipe that ships loads, and runs when made tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import read_receipt
from orrery.kit.config import read_yaml
from orrery.kit.json_lines import write_rows
from orrery.serve.find import find_model, run_stages

from .conftest import small_text

LIVES = ("gemma-assistant", "r1", "tulu3")
"""Made tiny in test_lifecycle.py."""
SPOKEN = ("constitution", "raft", "self_instruct")
"""Made tiny in test_sample.py, where what is said is known."""
SHELF = (Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml")
RECIPES = sorted(path for path in SHELF if path.stem not in (*LIVES, *SPOKEN))

TINY = ["loader.context=32", "loader.rows=2", "model.d_model=32", "model.n_heads=2"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_runs_tiny(
    path: Path, small_run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = read_yaml(path)
    out = tmp_path / "run"
    if path.stem == "gemma-sft":
        run_recipe(data, gemma_settings(small_run, request.getfixturevalue("shared_data")), out=out)
        assert [kind for kind, _ in run_stages(out)] == ["scores", "adapter", "scores"]
        return
    text = {"kind": "files", "paths": [str(small_text(tmp_path / "text", files=24))]}
    if "stages" in data:
        data["source"] = text
        data["split"] = {"heldout": 0.1}
        overrides = [f"stages.train.{setting}" for setting in TINY] + [
            "stages.tokenizer.tokenizer.vocab_size=320",
            "stages.train.loop.minutes=null",
            "stages.train.loop.steps=4",
            "stages.generate.max_tokens=4",
            *(f"stages.{name}.loop.minutes=null" for name in ("sft", "rl")),
            *(f"stages.{name}.loop.steps=2" for name in ("sft", "rl")),
            *(f"stages.{name}.limit=4" for name in ("before", "after", "practised")),
            "stages.rl.rl.heldout=4",
            "stages.rl.rl.rollout.prompts=2",
        ]
        run_recipe(data, overrides, out=out)
        page = (out / "report.html").read_text()
        assert all(title in page for title in ("Reward", "KL to the start", "Entropy", "Length of answers"))
        assert find_model(out).name.startswith("rl-")
        return
    stage = single(data, small_run, text)
    single_stage(stage, settings(data), kind=data["kind"], out=out)
    made = next(p for p in out.iterdir() if (p / "orrery.json").is_file())
    other = {"prepare": "data", "drafter": "drafter", "reward": "reward"}  # all else makes a model
    assert read_receipt(made).kind == other.get(data["kind"], "model")


def single(data: dict[str, Any], run: Path, text: dict[str, Any]) -> dict[str, Any]:
    if data["kind"] == "prepare":
        return {**data, "tokenizer": str(run), "source": text, "split": {"heldout": 0.1}}
    if data["kind"] in ("tune", "rl"):
        return {**data, "base": str(run)}
    if data["kind"] in ("prefer", "reward"):
        pairs = Path(text["paths"][0]).with_name("pairs.jsonl")
        write_rows(pairs, [{"prompt": f"the cat {n}", "chosen": "sat", "rejected": "ran"} for n in range(12)])
        online = {"online": None} if data["kind"] == "prefer" else {}
        return {**data, "base": str(run), **online, "data": [{"paths": [str(pairs)]}], "heldout": 0.2}
    if data["kind"] == "distill":
        return {**data, "teacher": str(run)}
    return {**data, "data": str(run), **({"base": str(run)} if data["kind"] == "drafter" else {})}


def settings(data: dict[str, Any]) -> list[str]:
    if data["kind"] == "prepare":
        return []
    if data["kind"] in ("tune", "distill"):
        sizes = [f"data.{n}.generator.n=40" for n in range(len(data["data"]))]
        return [
            *sizes,
            "heldout=0.2",
            "loader.context=64",
            "loader.rows=2",
            "loop.minutes=null",
            "loop.steps=3",
        ]
    if data["kind"] == "reward":
        return ["loader.context=64", "loader.rows=2", "epochs=null", "loop.minutes=null", "loop.steps=3"]
    if data["kind"] == "prefer":
        return ["loader.context=64", "loader.pairs=2", "loop.steps=3"]
    if data["kind"] == "rl":
        sizes = [f"rl.problems.{n}.generator.n=20" for n in range(len(data["rl"]["problems"]))]
        rollout = ["rl.rollout.prompts=2", "rl.rollout.responses=2", "rl.rollout.max_tokens=4"]
        return [*sizes, *rollout, "rl.heldout=4", "loop.minutes=null", "loop.steps=2"]
    heads = ["model.n_kv_heads=1"] if "n_kv_heads" in data.get("model", {}) else []
    return [
        *(setting for setting in TINY if data["kind"] == "train" or setting.startswith("loader")),
        *heads,
        "loop.minutes=null",
        "loop.steps=3",
        "loop.validate_every=null",
        "loop.sample_every=null",
    ]


def gemma_settings(base: Path, data: Path) -> list[str]:
    """The recipe with a small model in Gemma's place, some rows of each set and questions that it has room for."""
    sets = range(6)
    return [
        f"data_root={data}",
        f"stages.before.model={base}",
        f"stages.tune.base={base}",
        *(f"stages.{name}.tasks=[blimp]" for name in ("before", "after")),
        *(f"stages.{name}.limit=4" for name in ("before", "after")),
        *(f"stages.tune.data.{n}.limit=12" for n in sets),
        "stages.tune.chat_template=auto",
        "stages.tune.heldout=0.3",
        "stages.tune.loader.context=64",
        "stages.tune.loader.long=split",
        "stages.tune.loop.minutes=null",
        "stages.tune.loop.steps=2",
    ]
