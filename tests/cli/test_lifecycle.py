"""Whole lives in one recipe each, made tiny: from text, or from a finished model, through every stage of alignment to the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import orrery
from orrery.cli.pipeline.runner import run_recipe
from orrery.kit.artifact import read_receipt
from orrery.kit.config import read_yaml
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows, write_rows
from orrery.kit.lm import ScoreRequest
from orrery.model.adapters import Lora
from orrery.serve.adapters import Adapters
from orrery.serve.find import find_model, run_stages
from orrery.tune.subject import open_floats, open_subject

from .conftest import small_text

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
STEPS = ("minutes=null", "steps=2", "validate_every=null", "checkpoint={every_steps: 1, every_seconds: null}")


def tiny(name: str) -> tuple[dict[str, Any], list[str]]:
    """A recipe and the settings that make each of its stages take a moment."""
    recipe = read_yaml(RECIPES / f"{name}.yaml")
    found = []
    for stage in recipe["stages"]:
        at = f"stages.{stage.get('name', stage['kind'])}"
        if "loop" in stage:
            found += [f"{at}.loop.{setting}" for setting in STEPS]
        match stage["kind"]:
            case "tokenizer":
                found += [f"{at}.tokenizer.vocab_size=320"]
            case "train":
                small = ("d_model=32", "n_layers=1", "n_heads=2", "feed_forward.d_ff=64")
                found += [f"{at}.model.{setting}" for setting in small] + [f"{at}.loader.rows=2"]
            case "tune":
                made = [n for n, one in enumerate(stage["data"]) if "generator" in one]
                found += [f"{at}.loader.rows=2", f"{at}.heldout=0.2"]
                found += [f"{at}.data.{n}.generator.n=30" for n in made]
            case "prefer":
                found += [f"{at}.loader.pairs=2", f"{at}.heldout=0.2"]
            case "sample" | "rl":
                cfg, of = (stage["rl"], f"{at}.rl") if stage["kind"] == "rl" else (stage, at)
                for n, problems in enumerate(cfg["problems"]):
                    found += [f"{of}.problems.{n}.generator.n=12"] if "generator" in problems else []
                if stage["kind"] == "rl":
                    found += [f"{of}.heldout=4"] + [
                        f"{of}.rollout.{s}" for s in ("prompts=2", "responses=2", "max_tokens=4")
                    ]
                else:
                    found += [f"{at}.speech.max_tokens=4"]
            case "eval":
                found += [f"{at}.limit=2"]
    return recipe | {"split": {"heldout": 0.1}}, found


@pytest.fixture
def easy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model neither answers rightly nor comes to an end; so that something is kept, every third answer counts as right and whole."""
    from orrery.tune.rl.problems import Problem
    from orrery.tune.selfdata import speaker

    def judge(self: Problem, answer: str) -> float:
        return float(answer == self.target or sum(map(ord, answer)) % 3 == 0)

    read = speaker._said
    monkeypatch.setattr(Problem, "judge", judge)
    monkeypatch.setattr(speaker, "_said", lambda row: replace(read(row), whole=True))


def from_text(recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    return recipe | {"source": {"kind": "files", "paths": [str(small_text(tmp_path / "text", files=24))]}}


@pytest.mark.slow
@pytest.mark.usefixtures("easy")
def test_the_order_of_tulu_3(tmp_path: Path) -> None:
    recipe, settings = tiny("tulu3")
    out = tmp_path / "run"
    run_recipe(from_text(recipe, tmp_path), settings, out=out)
    kinds = [kind for kind, _ in run_stages(out)]
    assert kinds == [
        "tokenizer",
        "data",
        "model",
        "scores",
        "model",
        "scores",
        "examples",
        "model",
        "scores",
        "model",
        "scores",
    ]
    model = find_model(out)
    operations, receipt = [], read_receipt(model)
    while receipt.operation != "train":
        operations.append(receipt.operation)
        model = model / next(parent.path for parent in receipt.parents if parent.role == "model")
        receipt = read_receipt(model)
    assert operations == ["reinforce", "prefer", "tune"]
    assert orrery.load(out).generate([{"role": "user", "content": "What is 1 + 1?"}], max_tokens=3).ids
    assert (out / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("easy")
def test_the_order_of_r1(tmp_path: Path) -> None:
    recipe, settings = tiny("r1")
    out = tmp_path / "run"
    run_recipe(from_text(recipe, tmp_path), settings, out=out)
    kinds = [kind for kind, _ in run_stages(out)]
    assert kinds == [
        "tokenizer",
        "data",
        "model",
        "model",
        "scores",
        "model",
        "scores",
        "examples",
        "model",
        "scores",
        "model",
        "scores",
    ]
    folders = {
        path.name.rsplit("-", 1)[0]: path for path in out.iterdir() if (path / "orrery.json").is_file()
    }
    assert read_rows(folders["rejection"] / "examples.jsonl")
    parents = {parent.role: parent.operation for parent in read_receipt(folders["sft"]).parents}
    assert (
        parents["model"] == "train"
    )  # rejection sampling teaches the base model, not the one that practised
    assert any(role.startswith("data") for role in parents)


@pytest.mark.slow
@pytest.mark.usefixtures("easy")
def test_a_real_models_way_to_an_assistant(small_run: Path, shared_data: Path, tmp_path: Path) -> None:
    """Adapters beside adapters: each stage's base is the one before it, merged; what comes out opens and speaks."""
    recipe, settings = tiny("gemma-assistant")
    out = tmp_path / "run"
    answers = {"chosen": "on the mat", "rejected": "the the the"}
    write_rows(
        tmp_path / "a.jsonl",
        [{"conversations": [{"from": "human", "value": f"the cat {n}"}], **answers} for n in range(12)],
    )
    write_rows(
        tmp_path / "b.jsonl",
        [{"messages": [{"role": "user", "content": f"the dog {n}"}], **answers} for n in range(12)],
    )
    write_rows(tmp_path / "c.jsonl", [{"question": f"the hen {n}", "answer": str(n)} for n in range(12)])
    settings += [
        f"stages.rlvr.rl.problems.1.paths=[{tmp_path}/c.jsonl]",
        *(f"stages.dpo.data.{n}.paths=[{tmp_path / name}.jsonl]" for n, name in enumerate("ab")),  # real ones do not fit into 64 tokens
        f"data_root={shared_data}", f"stages.before.model={small_run}", f"stages.sft.base={small_run}", "stages.sft.chat_template=auto",
        "stages.sft.loader.context=64", "stages.sft.loader.long=split", "stages.dpo.loader.context=64", "stages.dpo.loader.long=right",
        *(f"stages.sft.data.{n}.limit=10" for n in range(6)), "stages.rlvr.rl.problems.1.limit=8", "stages.dpo.data.0.limit=12",
        "stages.dpo.data.1.limit=12", *(f"stages.{name}.tasks=[hhh]" for name in ("before", "after-sft", "after-dpo", "after-rlvr")),
        "stages.sft.blocks=false",
    ]  # fmt: skip
    run_recipe(recipe, settings, out=out)
    assert [kind for kind, _ in run_stages(out)] == [
        "scores",
        "adapter",
        "scores",
        "adapter",
        "scores",
        "adapter",
        "scores",
    ]
    lm = orrery.load(out)
    assert lm.chat is not None and lm.generate([{"role": "user", "content": "the cat"}], max_tokens=3).ids


def test_an_adapter_beside_an_adapter_equals_both_merged(small_run: Path, tmp_path: Path) -> None:
    """The second was trained beside weights with the first in them, and opens so: as the model with both merged one after the other."""
    write_rows(
        tmp_path / "a.jsonl", [{"prompt": f"the cat {n}", "completion": "sat on the mat"} for n in range(8)]
    )
    stage = {
        "kind": "tune", "data": [{"paths": [str(tmp_path / "a.jsonl")]}], "heldout": 0.0, "adapter": {"kind": "lora", "rank": 4},
        "loader": {"context": 32, "rows": 2},
        "loop": {"steps": 3, "optimizer": {"kind": "adamw", "lr": 0.02}, "precision": "fp32", "validate_every": None},
    }  # fmt: skip
    stages = [{**stage, "name": "one", "base": str(small_run)}, {**stage, "name": "two", "base": "one"}]
    out = tmp_path / "run"
    run_recipe({"name": "stack", "stages": stages}, [], out=out)
    one, two = (next(out.glob(f"{name}-*/adapter_config.json")).parent for name in ("one", "two"))
    merged = orrery.load(find_model(small_run))
    for adapter in (one, two):
        Adapters.of(merged.model).load("next", adapter)
        Adapters.of(merged.model).merge("next")
    stacked, first = orrery.load(two), orrery.load(one)
    assert Adapters.of(stacked.model).names == ("default",) and Adapters.of(merged.model).names == ()
    ids = [ScoreRequest(ids=stacked.tokenizer.encode("the cat sat on the mat and saw"))]
    told = [torch.tensor(lm.score(ids)[0].logprobs) for lm in (stacked, merged, first)]
    torch.testing.assert_close(told[0], told[1], atol=1e-5, rtol=1e-5)
    assert (told[0] - told[2]).abs().max() > 1e-3
    continued = open_floats(two)
    torch.testing.assert_close(torch.tensor(continued.score(ids)[0].logprobs), told[1], atol=1e-5, rtol=1e-5)
    with pytest.raises(OrreryError, match="set blocks: false"):
        open_subject(one, adapter=Lora(rank=4), blocks=True)
