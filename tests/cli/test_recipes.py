"""Every recipe that ships loads, and runs when made tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.pipeline.single import single_stage
from orrery.kit.artifact import read_receipt
from orrery.kit.config import read_yaml

from .conftest import small_text

RECIPES = sorted((Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"))

TINY = ["loader.context=32", "loader.rows=2", "model.d_model=32", "model.n_heads=2"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_runs_tiny(path: Path, small_run: Path, tmp_path: Path) -> None:
    data = read_yaml(path)
    out = tmp_path / "run"
    text = {"kind": "files", "paths": [str(small_text(tmp_path / "text", files=24))]}
    if "stages" in data:
        data["source"] = text
        data["split"] = {"heldout": 0.1}
        overrides = [f"stages.train.{setting}" for setting in TINY] + [
            "stages.tokenizer.tokenizer.vocab_size=320",
            "stages.train.loop.minutes=null",
            "stages.train.loop.steps=4",
            "stages.generate.max_tokens=4",
        ]
        run_recipe(data, overrides, out=out)
        assert (out / "report.html").is_file()
        return
    stage = single(data, small_run, text)
    single_stage(stage, settings(data), kind=data["kind"], out=out)
    made = next(p for p in out.iterdir() if (p / "orrery.json").is_file())
    assert (
        read_receipt(made).kind == {"train": "model", "prepare": "data", "drafter": "drafter"}[data["kind"]]
    )


def single(data: dict[str, Any], run: Path, text: dict[str, Any]) -> dict[str, Any]:
    if data["kind"] == "prepare":
        return {**data, "tokenizer": str(run), "source": text, "split": {"heldout": 0.1}}
    return {**data, "data": str(run), **({"base": str(run)} if data["kind"] == "drafter" else {})}


def settings(data: dict[str, Any]) -> list[str]:
    if data["kind"] == "prepare":
        return []
    heads = ["model.n_kv_heads=1"] if "n_kv_heads" in data.get("model", {}) else []
    return [
        *(setting for setting in TINY if data["kind"] == "train" or setting.startswith("loader")),
        *heads,
        "loop.minutes=null",
        "loop.steps=3",
        "loop.validate_every=null",
        "loop.sample_every=null",
    ]
