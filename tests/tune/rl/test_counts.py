"""What a token counts in the policy's loss: importance weights, answers the policy has left behind, and forking tokens alone."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from orrery.kit.log import read_jsonl
from orrery.tune.rl.learning import Before, correct, counted
from orrery.tune.rl.packing import Axis

from .start import LOOP, config, run, taught

OWNER = torch.tensor([0, 0, 1, 1])
AXIS = Axis(
    owner=OWNER, turn=OWNER, sampler=torch.full((4,), -1.0), group=torch.tensor([0, 0]), turn_owner=torch.tensor([0, 1]),
    turn_place=torch.tensor([0, 0]),
)  # fmt: skip
MOVED = Before(
    old=torch.tensor([-3.0, -3.0, -1.0, -1 + math.log(3)]), entropy=torch.tensor([0.1, 2.0, 0.3, 0.2])
)


def test_weights_by_hand() -> None:
    worse = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    free = correct(config(), AXIS, MOVED, worse)
    assert free.weights is None and counted(config(), free) is None
    cfg = config(correction={"high": 2.0})
    small = math.exp(-2)
    found = correct(cfg, AXIS, MOVED, worse)
    assert found.weights is not None and found.bounded == 1
    torch.testing.assert_close(found.weights, torch.tensor([small, small, 1.0, 2.0]))
    assert counted(cfg, found) is found.weights


def test_a_bad_answer_that_is_far_behind_is_left_out() -> None:
    cfg = config(correction={"drift": 1.5})  # the first answer has become less likely by 2 nats a token
    bad = correct(cfg, AXIS, MOVED, torch.tensor([-1.0, -1.0, -1.0, -1.0])).weights
    good = correct(cfg, AXIS, MOVED, torch.ones(4)).weights
    assert bad is not None and good is not None
    assert bad[:2].tolist() == [0.0, 0.0] and torch.equal(bad[2:], good[2:]) and bool((good > 0).all())


def test_forking_tokens_alone() -> None:
    cfg = config(entropy={"forking": 0.25})
    plain = counted(cfg, MOVED)
    assert plain is not None and plain.tolist() == [0.0, 1.0, 0.0, 0.0]
    both = counted(cfg, dataclasses.replace(MOVED, weights=torch.tensor([2.0, 0.5, 1.0, 1.0])))
    assert both is not None and both.tolist() == [0.0, 0.5, 0.0, 0.0]


def test_a_run_in_which_only_forking_tokens_teach(tmp_path: Path) -> None:
    start = taught()
    small = {"prompts": 4, "responses": 4, "max_tokens": 6}
    one, other = start.lm(), start.lm()
    few = dataclasses.replace(LOOP, steps=1)
    run(start, tmp_path / "all", config(rollout=small), few, one)
    run(start, tmp_path / "forks", config(rollout=small, entropy={"forking": 0.2}), few, other)
    (all_,), (forks,) = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("all", "forks"))
    assert all_["reward"] == forks["reward"] and all_["grad_norm"] != forks["grad_norm"] > 0
    assert forks["first_ratio"] == 0.0
    assert any(
        not torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )
