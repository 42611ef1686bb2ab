"""So many minutes: fitting, recording, shortening at the last moment, and going on with the same plan."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training_run import DENSE, TinyLoader, config, go, held_out_loss, trace, weights_sha

from orrery.kit.errors import OrreryError
from orrery.train.budget import (
    Costs,
    Entry,
    Plan,
    due,
    first_total,
    fit,
    in_constant_phase,
    read_plan,
    seconds_for,
    shorter_total,
    times,
)
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.journal import read_journal
from orrery.train.schedule import WSD, Constant, Cosine, lr_at

NO_SAVES = CheckpointConfig(every_seconds=None, keep_best=0)


def test_when_things_are_due() -> None:
    assert [done for done in range(1, 11) if due(4, done, 10)] == [4, 8, 10]
    assert [done for done in range(1, 11) if due(0.3, done, 10)] == [3, 6, 9, 10]
    assert not any(due(None, done, 10) for done in range(1, 11))
    assert due(0.001, 1, 10)


@pytest.mark.parametrize("interval", [None, 1, 3, 4, 10, 30, 0.1, 0.25, 0.3])
@pytest.mark.parametrize("total", [1, 7, 12, 100])
def test_counting_agrees_with_listing(interval: int | float | None, total: int) -> None:
    for after in range(total + 1):
        listed = sum(due(interval, done, total) for done in range(after + 1, total + 1))
        assert times(interval, total, after=after) == listed


def test_seconds_by_hand() -> None:
    """100 steps of 0.1 s, 4 validations of 2 s which may each be saved, 2 samples of 1 s, saves of 0.5 s."""
    cfg = TrainConfig(
        minutes=1, validate_every=25, sample_every=0.5,
        checkpoint=CheckpointConfig(every_steps=50, every_seconds=8.0, keep_best=1),
    )  # fmt: skip
    costs = Costs(step=0.1, validation=2.0, sample=1.0, checkpoint=0.5)
    assert seconds_for(cfg, costs, 100) == pytest.approx(10 + 8 + 2 + (1 + 2 + 4 + 20 / 8) * 0.5)


def test_fit_is_the_largest_that_fits() -> None:
    cfg = TrainConfig(minutes=1, checkpoint=NO_SAVES, validate_every=7, sample_every=None)
    costs = Costs(step=0.05, validation=0.4, checkpoint=0.3)
    for seconds in (0.1, 1.0, 7.3, 100.0):
        total = fit(cfg, costs, seconds)
        assert total == 1 or seconds_for(cfg, costs, total) <= seconds
        assert seconds_for(cfg, costs, total + 1) > seconds
    assert fit(cfg, costs, 0.0, after=41) == 42


def test_a_warmup_longer_than_the_run_is_said_at_once() -> None:
    cfg = TrainConfig(minutes=0.1, schedule=WSD(warmup=500), checkpoint=NO_SAVES)
    with pytest.raises(OrreryError, match="do not fit"):
        first_total(cfg, Costs(step=0.1), 6.0)


def test_the_total_is_shortened_once_and_as_late_as_can_be() -> None:
    """A machine that becomes half as fast after 100 of 1000 steps: decay begins when it must, every rate taken stays."""
    cfg = TrainConfig(
        minutes=100 / 60,
        schedule=WSD(warmup=10, decay=0.2),
        checkpoint=NO_SAVES,
        validate_every=None,
        sample_every=None,
    )
    total, elapsed, changes, rates = 1000, 0.0, [], []
    step = 0
    while step < total:
        seconds = 0.1 if step < 100 else 0.2
        new = shorter_total(cfg, Costs(step=seconds), step=step, total=total, seconds_left=100 - elapsed)
        if new:
            changes.append((step, new))
            total = new
        rates.append(lr_at(cfg.schedule, step, total))
        elapsed += seconds
        step += 1
    assert len(changes) == 1
    ((at, new),) = changes
    assert elapsed <= 100 and elapsed > 98
    assert rates[10 : at + 1] == [1.0] * (at - 9)  # constant until then
    assert rates[at + 1 :] == sorted(rates[at + 1 :], reverse=True) and rates[-1] < 0.02
    assert abs(at - 0.8 * new) <= 2


def test_a_run_in_time_or_in_its_decay_is_left_alone() -> None:
    cfg = TrainConfig(minutes=1, schedule=WSD(warmup=10, decay=0.2), checkpoint=NO_SAVES)
    slow = Costs(step=1.0)
    assert shorter_total(cfg, Costs(step=0.01), step=500, total=1000, seconds_left=60) is None
    assert shorter_total(cfg, slow, step=900, total=1000, seconds_left=1) is None  # decaying
    assert shorter_total(cfg, slow, step=5, total=1000, seconds_left=1) is None  # warming up
    cosine = TrainConfig(minutes=1, schedule=Cosine(warmup=10), checkpoint=NO_SAVES)
    assert shorter_total(cosine, slow, step=500, total=1000, seconds_left=1) is None
    constant = TrainConfig(minutes=1, schedule=Constant(), checkpoint=NO_SAVES, validate_every=None)
    assert shorter_total(constant, slow, step=500, total=1000, seconds_left=100) is None  # there is time yet
    assert shorter_total(constant, slow, step=500, total=1000, seconds_left=0.5) == 501
    assert not in_constant_phase(WSD(warmup=10, decay=995), 12, 1000)


def test_a_plan_is_a_history(tmp_path: Path) -> None:
    plan = Plan([Entry(0, 100, "fits")])
    plan.shorten(60, 80, "slow")
    plan.save(tmp_path, run="r")
    found = read_plan(tmp_path)
    assert found is not None
    again, notes = found
    assert again == plan and notes["run"] == "r"
    assert [again.total_at(step) for step in (0, 59, 60, 99)] == [100, 100, 80, 80]
    assert read_plan(tmp_path / "none") is None
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(OrreryError, match="cannot be read"):
        read_plan(tmp_path)


@dataclass(frozen=True)
class Slow(TinyLoader):
    """Batches that take `pause` seconds, and `later` seconds from step `turn` on, as on a machine that others use too."""

    pause: float = 0.01
    later: float = 0.01
    turn: int = 10**9

    def batch(self, step: int, micro: int = 0) -> Any:
        time.sleep(self.pause if step < self.turn else self.later)
        return super().batch(step, micro)


def minutes(seconds: float) -> TrainConfig:
    return config(
        steps=None, minutes=seconds / 60, schedule=WSD(warmup=5, decay=0.3), validate_every=0.25, sample_every=0.25,
        checkpoint=CheckpointConfig(every_seconds=1.0),
    )  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported and measured once in a process would take a good part of these seconds."""
    go(tmp_path_factory.mktemp("warm"), config(steps=1))


def test_a_run_ends_in_its_minutes_with_everything(tmp_path: Path) -> None:
    def slow_validation(model: Any) -> float:
        time.sleep(0.2)
        return held_out_loss(model)

    began = time.monotonic()
    result = go(tmp_path / "run", minutes(5), loader=Slow(), validation=slow_validation)
    took = time.monotonic() - began
    assert took < 7.5  # half as much again, for a machine on which other tests run
    assert result.steps == result.total >= 20
    lines = read_journal(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == result.steps and sum("validation" in line for line in lines) in (4, 5)
    assert lines[-1]["lr"] < 0.2 * lines[10]["lr"]
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    assert recorded["plan"][-1]["total"] == result.total and recorded["costs"]["validation"] >= 0.2


def test_the_trial_before_the_run_leaves_it_as_it_was(tmp_path: Path) -> None:
    """The recorded plan, run in a new folder without a trial, gives the same bits."""
    cfg = minutes(2)
    result = go(tmp_path / "tried", cfg, loader=Slow())
    (tmp_path / "planned").mkdir()
    shutil.copy(tmp_path / "tried" / "run.json", tmp_path / "planned" / "run.json")
    again = go(tmp_path / "planned", cfg, loader=Slow(pause=0.0))
    assert again.steps == result.steps
    assert trace(tmp_path / "tried") == trace(tmp_path / "planned")


def test_a_slower_machine_shortens_the_run_and_a_resumed_one_follows(tmp_path: Path) -> None:
    """Shortened in the constant phase; killed later and resumed from before that, the run repeats the change at its step."""
    cfg, out = minutes(6), tmp_path / "run"
    began = time.monotonic()
    result = go(out, cfg, loader=Slow(pause=0.01, later=0.05, turn=60))
    assert time.monotonic() - began < 9
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert len(plan) == 2 and plan[1]["total"] == result.steps < plan[0]["total"]
    (event,) = [line for line in read_journal(out / "events.jsonl") if line["event"] == "shortened"]
    assert event["total"] == result.steps and event["step"] == plan[1]["from_step"]
    lines = read_journal(out / "metrics.jsonl")
    at = plan[1]["from_step"]
    assert {line["lr"] for line in lines[5:at]} == {cfg.optimizer.lr}
    for line in lines:
        total = plan[0]["total"] if line["step"] < at else plan[1]["total"]
        assert line["lr"] == cfg.optimizer.lr * lr_at(cfg.schedule, line["step"], total)

    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(out / "run.json", copy / "run.json")

    def dies(model: Any, step: int) -> str:
        if step > 20:
            raise RuntimeError("lights out")
        return weights_sha(model)

    with pytest.raises(RuntimeError, match="lights out"):
        go(copy, cfg, loader=TinyLoader(), sample=dies)
    assert go(copy, cfg, loader=TinyLoader()).steps == result.steps
    assert trace(out) == trace(copy)


def test_a_plan_of_another_run_does_not_count(tmp_path: Path) -> None:
    go(tmp_path, config(steps=4))
    shutil.rmtree(tmp_path / "checkpoints")
    assert go(tmp_path, config(steps=6), model=DENSE).steps == 6


def test_a_plan_that_contradicts_the_checkpoint_is_refused(tmp_path: Path) -> None:
    go(tmp_path, config(steps=4))
    text = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(text.replace('"total": 4', '"total": 9'))
    with pytest.raises(OrreryError, match=r"run\.json' is not what was written"):
        go(tmp_path, config(steps=4))
    (tmp_path / "run.json").unlink()
    assert go(tmp_path, config(steps=4)).steps == 4
