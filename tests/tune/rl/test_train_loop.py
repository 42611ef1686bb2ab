"""The loop as a whole: it learns, it goes on after a kill bit for bit, and what learns is what drew."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.log import read_jsonl
from orrery.model.lowbit import backend
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.train.state import model_tensors
from orrery.tune.rl.problems import read_problems
from orrery.tune.rl.round import Round
from orrery.tune.rl.trainer import reinforce

from .start import LOOP, Start, config, run, taught

ALGORITHMS = (
    "reinforce",
    "rloo",
    "reinforce-pp",
    "ppo",
    "vapo",
    "trpo",
    "grpo",
    "dr-grpo",
    "dapo",
    "gspo",
    "cispo",
)
FEW = dataclasses.replace(LOOP, steps=2)
SMALL = {"prompts": 4, "responses": 4, "max_tokens": 6}


@pytest.fixture(scope="module")
def start() -> Start:
    return taught()


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_it_learns_to_choose_the_right_answer(start: Start, tmp_path: Path, algorithm: str) -> None:
    run(start, tmp_path, config(algorithm={"kind": algorithm}))
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    first, last = ([line["accuracy"] for line in part] for part in (lines[:4], lines[-4:]))
    assert sum(last) / 4 > sum(first) / 4 + 0.2
    assert lines[-1]["entropy"] < lines[0]["entropy"] and lines[0]["kl_start"] == 0 < lines[20]["kl_start"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_takes_a_step_on_policy(start: Start, tmp_path: Path, algorithm: str) -> None:
    lm = start.lm()
    several = {} if algorithm in ("reinforce", "rloo", "trpo") else {"epochs": 2, "minibatches": 2}
    warm = {"critic": {"warmup": 1}} if algorithm == "vapo" else {}
    cfg = config(algorithm={"kind": algorithm, **warm}, rollout=SMALL, **several)
    result = run(start, tmp_path, cfg, FEW, lm)
    line = read_jsonl(tmp_path / "metrics.jsonl")[0]
    assert result.steps == 2 and result.start is not None and result.sampled > 0
    assert (
        line["first_ratio"] == 0.0 and line["kl_start"] == 0.0
    )  # exactly: the same pass over the same weights
    assert line["engine_gap"] < 1e-4
    if backend() == "c++":
        assert line["served_gap"] == 0.0  # exactly: the engine and a pass by its kernels
    assert not hasattr(lm.model, "critic")
    moved = any(
        not torch.equal(a, b) for a, b in zip(lm.model.parameters(), start.model.parameters(), strict=True)
    )
    assert moved
    if several and not warm:
        assert line["ratio_mean"] != 1.0  # later updates are off policy, and the ratio says so


def test_a_round_of_dead_groups_says_that_it_teaches_nothing(start: Start, tmp_path: Path) -> None:
    lm = start.lm()
    run(
        start, tmp_path, config(rewards=[{"kind": "verifier", "weight": 0.0}], rollout=SMALL), dataclasses.replace(FEW, steps=1), lm
    )  # fmt: skip
    (line,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert line["dead_groups"] == 1.0 and line["loss"] == 0.0 and "nothing is learned" in line["explain"][0]
    for a, b in zip(lm.model.parameters(), start.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_first_loss_of_a_group_baseline_is_zero_by_construction(start: Start, tmp_path: Path) -> None:
    run(start, tmp_path, config(), dataclasses.replace(FEW, steps=1))
    (line,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert abs(line["loss"]) < 1e-6 < line["grad_norm"]
    assert "the loss is 0 here by construction" in line["explain"][-1]


def test_others_are_drawn_in_the_place_of_dead_groups(start: Start, tmp_path: Path) -> None:
    cfg = config(algorithm={"kind": "dapo"}, rollout={"prompts": 8, "responses": 2, "max_tokens": 8})
    run(start, tmp_path, cfg, dataclasses.replace(FEW, steps=1))
    (line,) = read_jsonl(tmp_path / "metrics.jsonl")
    assert line["dead_groups"] == 0.0 and line["groups_drawn"] > 8 and line["advantage_abs"] > 0.5


STATEFUL: dict[str, Any] = {
    "algorithm": {"kind": "ppo"}, "epochs": 2, "minibatches": 2, "rollout": SMALL, "kl": {"beta": 0.01, "target": 0.001},
    "entropy": {"target": 0.5}, "curriculum": {"low": 0.1, "high": 0.9},
}  # fmt: skip


def test_a_run_that_dies_in_a_round_repeats_it_bit_for_bit(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a critic, an adaptive beta, a following entropy bonus and pass rates: all that is carried from round to round."""
    cfg = config(**STATEFUL)
    every = CheckpointConfig(every_steps=2, every_seconds=None, keep_best=0)
    loop = TrainConfig(
        steps=5, precision="fp32", optimizer=AdamW(lr=1e-3), schedule=Constant(), checkpoint=every
    )
    whole = start.lm()
    straight = run(start, tmp_path / "whole", cfg, loop, whole)

    go, calls = Round.go, []

    def die(self: Round, step: int, *args: Any, **kwargs: Any) -> Any:
        calls.append(step)
        done = go(self, step, *args, **kwargs)
        if calls == [0, 1, 2, 3]:
            raise KeyboardInterrupt  # after the updates of a round, before anything of it is written
        return done

    monkeypatch.setattr(Round, "go", die)
    with pytest.raises(KeyboardInterrupt):
        run(start, tmp_path / "killed", cfg, loop)
    again = start.lm()
    resumed = run(start, tmp_path / "killed", cfg, loop, again)
    assert calls == [0, 1, 2, 3, 2, 3, 4] and resumed.resumed_from == 2
    one, other = model_tensors(whole.model), model_tensors(again.model)
    assert all(torch.equal(one[name], other[name]) for name in one)

    def timeless(folder: Path) -> list[dict[str, Any]]:
        timed = ("seconds", "rollout_seconds", "learn_seconds", "tokens_per_s", "mfu")
        return [
            {k: v for k, v in line.items() if k not in timed} for line in read_jsonl(folder / "metrics.jsonl")
        ]

    assert timeless(tmp_path / "whole") == timeless(tmp_path / "killed")
    assert (straight.drawn, straight.sampled, straight.end) == (resumed.drawn, resumed.sampled, resumed.end)
    assert read_jsonl(tmp_path / "whole" / "samples.jsonl") == read_jsonl(
        tmp_path / "killed" / "samples.jsonl"
    )


def test_as_many_rounds_as_fit_into_the_minutes_and_the_trial_leaves_no_trace(
    start: Start, tmp_path: Path
) -> None:
    cfg = config(rollout=SMALL, heldout=0)
    result = run(start, tmp_path / "timed", cfg, dataclasses.replace(LOOP, steps=None, minutes=0.05))
    assert result.steps == result.total >= 1
    run(start, tmp_path / "told", cfg, dataclasses.replace(LOOP, steps=1))
    timed, told = (read_jsonl(tmp_path / name / "metrics.jsonl")[0] for name in ("timed", "told"))
    assert timed["reward"] == told["reward"] and timed["entropy"] == told["entropy"]


def test_another_run_is_refused_and_so_are_settings_that_mean_nothing(start: Start, tmp_path: Path) -> None:
    run(start, tmp_path, config(rollout=SMALL), dataclasses.replace(FEW, steps=1))
    with pytest.raises(OrreryError, match="holds a run with other settings"):
        run(start, tmp_path, config(rollout=SMALL, epochs=2), dataclasses.replace(FEW, steps=1))
    cfg = config()
    problems = read_problems(cfg.problems, root=tmp_path, heldout=0)
    with pytest.raises(OrreryError, match="takes no z_loss"):
        reinforce(
            cfg, dataclasses.replace(LOOP, z_loss=0.1), lm=start.lm(), problems=problems, out=tmp_path / "x"
        )
    with pytest.raises(OrreryError, match="takes one step from what was drawn"):
        config(algorithm={"kind": "rloo"}, epochs=2)
    with pytest.raises(OrreryError, match="responses to 2 or more"):
        config(rollout={"responses": 1})
    with pytest.raises(OrreryError, match="leaves no room"):
        run(start, tmp_path / "y", config(rollout={"max_tokens": 60}), FEW)
