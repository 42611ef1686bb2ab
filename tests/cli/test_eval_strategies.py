"""`orrery eval --strategy`, the list of strategies, and the eval stage with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.recipe import EvalStage
from orrery.cli.pipeline.runner import run_recipe
from orrery.cli.strategies import read_strategies, reward_of
from orrery.evaluate.strategies.config import SelfConsistency, parse
from orrery.kit.artifact import read_receipt
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError

TASK = (
    "name: sums\nversion: 1\nabout: Sums.\nkind: generate\ndata: {generator: arithmetic, n: 3, seed: 0, difficulty: 1}\n"
    "prompt: '{{ question }}'\ntarget: ' {{ answer }}'\nmax_tokens: 6\nscore: numeric\nchat: false\n"
)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "sums.yaml"
    path.write_text(TASK)
    return path


def test_several_strategies_beside_each_other(
    small_run: Path, task: Path, tmp_path: Path, orrery: Any
) -> None:
    out = tmp_path / "out"
    ran = orrery(
        "eval", small_run, "--tasks", task, "--strategy", "direct; self-consistency:n=2,max_tokens=8", "--strategy",
        "best-of-n:n=2,max_tokens=8", "--out", out,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "accuracy against tokens" in ran.stdout and "tokens an" in ran.stdout
    names = ["sums@best-of-n-n=2,max_tokens=8", "sums@direct", "sums@self-consistency-n=2,max_tokens=8"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == names
    page = (out / "report.html").read_text()
    assert "sums: strategies" in page and "solved against tokens spent" in page
    told = json.loads((out / names[2] / "results.json").read_text())
    assert told["spent"]["calls"]["mean"] == 2 and told["settings"]["strategy"]["kind"] == "self-consistency"
    refused = orrery(
        "eval", small_run, "--tasks", task, "--strategy", "self-consistancy:n=2", "--out", tmp_path / "x"
    )
    assert refused.returncode == 1 and "Did you mean 'self-consistency'" in refused.stderr
    thinking = orrery(
        "eval", small_run, "--tasks", task, "--strategy", "budget-forcing", "--out", tmp_path / "y"
    )
    assert thinking.returncode == 1 and "without --no-chat" in thinking.stderr


def test_the_strategies_are_listed(orrery: Any) -> None:
    told = json.loads(orrery("eval", "strategies", "--json").stdout)
    assert told["self-consistency"]["settings"]["n"] == 8 and "effort" in told["budget-forcing"]["settings"]
    shown = orrery("eval", "strategies").stdout
    assert "program-aided" in shown and "medium 2,048" in shown


def test_options_are_read() -> None:
    assert read_strategies([]) == [None]
    assert read_strategies(["direct; self-consistency:n=2", "direct"]) == [
        parse("direct"),
        SelfConsistency(n=2),
    ]
    assert reward_of(None) is None and reward_of(parse("best-of-n")) is None
    with pytest.raises(OrreryError):
        reward_of(parse("best-of-n:by=reward,reward=no/such/folder"))


def test_a_stage_with_a_strategy(small_run: Path, task: Path, tmp_path: Path) -> None:
    stage = {
        "kind": "eval",
        "model": str(small_run),
        "tasks": [str(task)],
        "strategy": {"kind": "self-consistency", "n": 2, "max_tokens": 6},
    }
    recipe = {"name": "scores", "out": str(tmp_path / "run"), "stages": [stage]}
    out = run_recipe(recipe, [])
    (folder,) = [path for path in out.iterdir() if path.is_dir() and path.name.startswith("eval-")]
    tasks = read_receipt(folder).effects["tasks"]
    (name,) = tasks
    assert name == "sums@self-consistency-n=2,max_tokens=6" and tasks[name]["tokens_an_answer"] > 2
    assert (folder / name / "results.json").is_file()
    plain = resolve(EvalStage, {"kind": "eval", "tasks": ["gsm8k"]})
    assert plain.strategy is None
    with pytest.raises(OrreryError, match="self-consistency"):
        resolve(EvalStage, {"kind": "eval", "tasks": ["gsm8k"], "strategy": {"kind": "self-consistancy"}})
