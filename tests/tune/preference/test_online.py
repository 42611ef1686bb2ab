"""Rounds of the model's own answers, ranked by a judge: what is drawn is what is learned, it gets better, and a killed run goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.log import read_jsonl
from orrery.serve.lm import LM
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.train.state import model_tensors
from orrery.tune.preference.objective import Objective
from orrery.tune.preference.online import Round
from orrery.tune.preference.trainer import Preferred, prefer
from orrery.tune.rl.problems import read_problems

from .start import LOOP, Start, config, taught

GENERATED = {"name": "python_expression", "n": 200, "seed": 5, "difficulty": 1, "kinds": ["upper"]}
FEW = dataclasses.replace(LOOP, steps=4)


@pytest.fixture(scope="module")
def start() -> Start:
    return taught()


def online(**changes: Any) -> Any:
    plain = {
        "problems": [{"generator": GENERATED}],
        "heldout": 16,
        "prompts": 8,
        "answers": 4,
        "every": 2,
        "max_tokens": 8,
    }
    return config(loss={"kind": "dpo", "beta": 0.1, **changes.pop("loss", {})}, online=plain | changes)


def run(out: Path, cfg: Any, lm: LM, loop: TrainConfig = FEW, **more: Any) -> Preferred:
    problems = read_problems(cfg.online.problems, root=out, heldout=cfg.online.heldout)
    return prefer(cfg, loop, lm=lm, problems=problems, out=out, **more)


def test_it_learns_to_choose_the_right_answer(start: Start, tmp_path: Path) -> None:
    result = run(tmp_path, online(prompts=16), start.lm(), dataclasses.replace(LOOP, steps=30))
    assert len(result.rounds) == 15 and result.start is not None and result.end is not None
    assert sum(result.rounds[-4:]) > sum(result.rounds[:4]) + 0.8  # of 4 each
    assert result.before is None and result.kl is None


def test_the_first_round_is_on_policy_and_of_the_ids_that_were_drawn(start: Start, tmp_path: Path) -> None:
    lm = start.lm()
    run(tmp_path, online(), lm, dataclasses.replace(LOOP, steps=2))
    (line, _) = read_jsonl(tmp_path / "metrics.jsonl")
    assert line["loss"] == pytest.approx(0.693147, abs=1e-5) and abs(line["drift_chosen"]) < 1e-4
    plain = json.loads((tmp_path / "rounds" / "000000.json").read_text())
    found = Round.of(plain)
    assert json.loads(json.dumps(found.plain())) == plain and 0 < found.score < 1
    for item in found.items:
        texts = [lm.tokenizer.decode([id for id in tail if id not in lm.stop_ids]) for tail in item.tails]
        assert texts[0].isupper() and texts[0] != texts[1]


@pytest.mark.parametrize("reference", ["start", "round"])
def test_a_run_that_dies_in_a_round_goes_on_bit_for_bit(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    every = CheckpointConfig(every_steps=1, every_seconds=None, keep_best=0)
    loop = TrainConfig(
        steps=5, precision="fp32", optimizer=AdamW(lr=1e-3), schedule=Constant(), checkpoint=every
    )
    cfg, whole, again = online(every=3, reference=reference), start.lm(), start.lm()
    straight = run(tmp_path / "whole", cfg, whole, loop)
    call, calls = Objective.__call__, []

    def die(self: Objective, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:  # the second step of the second round
            raise KeyboardInterrupt
        return call(self, *args)

    monkeypatch.setattr(Objective, "__call__", die)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", cfg, start.lm(), loop)
    resumed = run(tmp_path / "killed", cfg, again, loop)
    assert (
        resumed.training.resumed_from == 4
        and resumed.rounds == straight.rounds
        and resumed.end == straight.end
    )
    one, other = model_tensors(whole.model), model_tensors(again.model)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_judge_is_followed(start: Start, tmp_path: Path) -> None:
    """One who likes small letters, though the problems' own checkers do not."""

    def small(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
        return [float(said[-1]["content"].islower()) for said in conversations]

    result = run(tmp_path, online(prompts=16), start.lm(), dataclasses.replace(LOOP, steps=24), judge=small)
    assert sum(result.rounds[-4:]) > sum(result.rounds[:4]) + 0.5


def test_a_judge_who_likes_everything_teaches_nothing(start: Start, tmp_path: Path) -> None:
    with pytest.raises(
        OrreryError, match=r"no problem of the first round has two answers that are judged differently"
    ):
        run(tmp_path, online(), start.lm(), judge=lambda conversations: [1.0] * len(conversations))


def test_a_round_without_a_difference_learns_from_the_last_again(start: Start, tmp_path: Path) -> None:
    calls: list[int] = []

    def tired(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float]:
        calls.append(len(conversations))
        return [float(said[-1]["content"].isupper()) if len(calls) < 2 else 1.0 for said in conversations]

    run(tmp_path, online(heldout=0), start.lm(), judge=tired)
    first, second = (
        Round.of(json.loads((tmp_path / "rounds" / f"00000{n}.json").read_text())) for n in (0, 1)
    )
    assert first.items == second.items and second.score == 1.0


def test_losses_without_a_reference_read_none(start: Start, tmp_path: Path) -> None:
    cfg = config(
        loss={"kind": "simpo"},
        online={"problems": [{"generator": GENERATED}], "heldout": 0, "prompts": 8, "max_tokens": 8},
    )
    run(tmp_path, cfg, start.lm(), dataclasses.replace(FEW, steps=1))
    assert json.loads((tmp_path / "rounds" / "000000.json").read_text())["reference"] == []


def test_what_does_not_go_together_is_refused(start: Start, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match=r"loop.steps rather than minutes"):
        run(tmp_path, online(), start.lm(), dataclasses.replace(LOOP, steps=None, minutes=1.0))
    with pytest.raises(OrreryError, match="kto learns from single ones"):
        config(loss={"kind": "kto"}, online={"problems": [{"generator": GENERATED}]})
