"""Answers from elsewhere are those from here, bit for bit: shares and weights without Ray, then two local workers that are killed."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import MissingExtra, OrreryError
from orrery.kit.log import read_jsonl
from orrery.model.adapters import AdapterSlots
from orrery.model.adapters.config import Lora, Prompt
from orrery.model.lowbit import backend
from orrery.serve.lm import LM
from orrery.train.config import CheckpointConfig
from orrery.train.state import model_tensors
from orrery.tune.rl.answering import Here, copied
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.problems import Problem, read_problems
from orrery.tune.rl.reading import ValueHead
from orrery.tune.rl.round import Round
from orrery.tune.rl.workers.shares import shares
from orrery.tune.rl.workers.worker import Setting, Weights, Worker
from orrery.tune.subject import beside

from .start import LOOP, Start, config, run, taught

FEW = dataclasses.replace(LOOP, steps=3)
SMALL = {"prompts": 5, "responses": 4, "max_tokens": 6}
TIMED = ("seconds", "rollout_seconds", "learn_seconds", "tokens_per_s", "mfu")
HOW = {"responses": 4, "seed": 11, "temperature": 1.0}

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'orrery-lm[cluster]'"
)
exact = pytest.mark.skipif(
    backend() != "c++", reason="without the compiled kernel answers depend on their company"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of files left open


@pytest.fixture(scope="module")
def start() -> Start:
    return taught()


def asked(cfg: RlConfig, folder: Path) -> tuple[Problem, ...]:
    return read_problems(cfg.problems, root=folder, heldout=0).sets[0][:7]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in TIMED}
        for line in read_jsonl(folder / "metrics.jsonl")
    ]


def same(one: LM, other: LM) -> bool:
    left, right = model_tensors(one.model), model_tensors(other.model)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- without Ray


def test_problems_are_shared_out_with_their_places() -> None:
    problems = [Problem(row={}, prompt=str(n), target="", score="verbatim") for n in range(7)]
    found = shares(problems, 3, **HOW)  # type: ignore[arg-type]
    assert [[p.prompt for p in share.problems] for share in found] == [
        ["0", "1"],
        ["2", "3"],
        ["4", "5", "6"],
    ]
    assert [share.first for share in found] == [0, 2, 4] and {share.seed for share in found} == {11}
    alone = shares(problems[:2], 5, first=4, **HOW)  # type: ignore[arg-type]
    assert [(share.first, len(share.problems)) for share in alone] == [(4, 1), (5, 1)]


@exact
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_merged_answers_are_those_of_one_speaker(start: Start, tmp_path: Path, count: int) -> None:
    cfg = config(rollout=SMALL)
    problems = asked(cfg, tmp_path)
    whole = Here.of(cfg, start.lm(), system="").ask(problems, **HOW)()  # type: ignore[arg-type]
    assert [one.group for one in whole] == [n for n in range(7) for _ in range(4)]
    hands = [Here.of(cfg, start.lm(), system="") for _ in range(count)]
    parts = shares(problems, count, **HOW)  # type: ignore[arg-type]
    assert [one for share, hand in zip(parts, hands, strict=False) for one in share.by(hand)] == whole


@exact
def test_so_are_those_of_several_turns(start: Start, tmp_path: Path) -> None:
    cfg = config(rollout=SMALL, environment={"kind": "attempts", "turns": 3, "told": "?"})
    problems = asked(cfg, tmp_path)
    whole = Here.of(cfg, start.lm(), system="").ask(problems, **HOW)()  # type: ignore[arg-type]
    assert len({len(one.turns) for one in whole}) > 1
    hand = Here.of(cfg, start.lm(), system="")
    assert [one for share in shares(problems, 3, **HOW) for one in share.by(hand)] == whole  # type: ignore[arg-type]


@exact
def test_a_worker_answers_with_the_weights_it_is_told_and_fetches_them_once(
    start: Start, tmp_path: Path
) -> None:
    cfg, lm = config(rollout=SMALL), start.lm()
    critic = config(algorithm={"kind": "ppo"}).parts.critic
    assert critic is not None
    lm.model.critic = ValueHead(lm.model.cfg.d_model, critic, seed=0)  # type: ignore[bad-argument-type]
    copy = LM(model=copied(lm.model), tokenizer=lm.tokenizer, chat=lm.chat)
    assert not hasattr(copy.model, "critic")
    worker = Worker(Setting(lm=copy, cfg=cfg, system="", virtual=0, deterministic=True))
    (share,) = shares(asked(cfg, tmp_path), 1, **HOW)  # type: ignore[arg-type]
    fetched: list[int] = []

    def answers(version: int, sent: bytes) -> Any:
        return worker.answer(share, version, lambda: (fetched.append(version), pickle.loads(sent))[1])

    def sent(version: int) -> bytes:
        weights = Weights.of(lm.model, version)
        assert weights.tensors and not any(name.startswith("critic") for name in weights.tensors)
        return pickle.dumps(weights)

    first = sent(0)
    begun = answers(0, first)
    assert answers(0, first) == begun and fetched == [0]
    with torch.no_grad():
        for parameter in lm.model.parameters():
            parameter.mul_(1.1)
    moved = answers(1, sent(1))
    assert moved != begun and fetched == [0, 1]
    live = Here.of(cfg, lm, system="")
    assert share.by(live) == moved and answers(0, first) == begun
    with pytest.raises(OrreryError, match="by weights 5, and given weights 0"):
        answers(5, first)


def test_of_an_adapter_only_the_adapter_is_sent(start: Start) -> None:
    lm = start.lm()
    lm.model.requires_grad_(False)
    adapter = beside(lm.model, Lora(rank=2), seed=1)
    learned = {name for name, p in lm.model.named_parameters() if p.requires_grad}
    assert set(Weights.of(lm.model, 0).tensors) == learned
    assert sum(p.numel() for p in adapter.parameters()) < 0.1 * sum(p.numel() for p in lm.model.parameters())


@pytest.mark.parametrize("adapter", [Lora(rank=4), Prompt(tokens=2)])
def test_a_copy_with_an_adapter_takes_its_weights(start: Start, tmp_path: Path, adapter: Any) -> None:
    cfg, lm = config(rollout=SMALL), start.lm()
    lm.model.requires_grad_(False)
    learned = beside(lm.model, adapter, seed=1)
    worker = Worker(
        Setting(lm=LM(model=copied(lm.model), tokenizer=lm.tokenizer, chat=lm.chat), cfg=cfg, system="", virtual=0, deterministic=True)
    )  # fmt: skip
    (share,) = shares(asked(cfg, tmp_path), 1, **HOW)  # type: ignore[arg-type]
    before = worker.answer(share, 0, lambda: Weights.of(lm.model, 0))
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.add_(0.3)
    after = worker.answer(share, 1, lambda: Weights.of(lm.model, 1))
    assert after == share.by(Here.of(cfg, lm, system="")) != before
    assert AdapterSlots.of(worker.model) is not AdapterSlots.of(lm.model)


LATE: dict[str, Any] = {
    "off_policy_steps": 1,
    "correction": {"level": "token", "high": 4.0},
    "rollout": SMALL,
}


def test_one_step_off_policy_says_how_far_off_it_is_and_needs_the_correction(
    start: Start, tmp_path: Path
) -> None:
    run(start, tmp_path, config(**LATE), FEW)
    first, second, third = lines(tmp_path)
    # the first answers are of the weights that learn; the others of those before the last update
    assert first["sampler_ratio_mean"] == pytest.approx(1, abs=1e-4)
    assert first["correction_share"] == pytest.approx(1, abs=1e-4)
    assert abs(first["sampler_ratio_max"] - 1) < 1e-3 < abs(second["sampler_ratio_max"] - 1)
    assert 0 < third["correction_share"] < 1 and "engine_gap" not in first
    assert all(line["first_ratio"] == 0.0 for line in (first, second, third))  # of the learner to itself
    with pytest.raises(OrreryError, match="add correction"):
        config(off_policy_steps=1)
    with pytest.raises(OrreryError, match=r"leave kl\.beta, .* and correction out"):
        config(**LATE, algorithm={"kind": "trpo"})


def test_a_run_one_step_off_policy_goes_on_with_the_answers_it_had(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(**LATE, algorithm={"kind": "dapo", "rounds": 2}, curriculum={"low": 0.1, "high": 0.9})
    whole, again = start.lm(), start.lm()
    straight = run(start, tmp_path / "whole", cfg, SAVED, whole)
    go = Round.go

    def die(self: Round, step: int, *args: Any, **kwargs: Any) -> Any:
        done = go(self, step, *args, **kwargs)
        if step == 3:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Round, "go", die)
    with pytest.raises(KeyboardInterrupt):
        run(start, tmp_path / "killed", cfg, SAVED)
    monkeypatch.undo()
    resumed = run(start, tmp_path / "killed", cfg, SAVED, again)
    assert resumed.resumed_from == 2 and same(whole, again)
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed") and straight.drawn == resumed.drawn


EVERY = CheckpointConfig(every_steps=2, every_seconds=None, keep_best=0)
SAVED = dataclasses.replace(LOOP, steps=5, checkpoint=EVERY)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(start: Start, tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"orrery-lm\[cluster\]"):
        run(start, tmp_path, config(workers=2), FEW)


def test_where_ray_cannot_be_imported_the_extra_is_named(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orrery.tune.rl.workers.group", None)
    monkeypatch.delitem(sys.modules, "orrery.tune.rl.workers.group")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"orrery-lm\[cluster\]"):
        run(start, tmp_path, config(workers=2), FEW)


@with_ray
def test_where_no_ray_listens(start: Start, tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match=r"there is no Ray at '127\.0\.0\.1:1'"):
        run(start, tmp_path, config(workers=2, cluster={"address": "127.0.0.1:1"}), FEW)


# --- two local workers


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for the tests below: it is used as it is found."""
    from orrery.tune.rl.workers.config import Cluster
    from orrery.tune.rl.workers.group import connected

    with connected(Cluster(), 4, 0):
        yield


@with_ray
@exact
@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_workers_change_nothing(start: Start, tmp_path: Path, cluster: None, late: bool) -> None:
    changes: dict[str, Any] = LATE if late else {"rollout": SMALL}
    found = {}
    for count in (0, 1, 2):
        found[count] = start.lm()
        cfg = config(**changes, workers=count, algorithm={"kind": "ppo"}, epochs=2)
        run(start, tmp_path / str(count), cfg, SAVED, found[count])
    assert same(found[0], found[1]) and same(found[0], found[2]) and not same(found[0], start.lm())
    assert lines(tmp_path / "0") == lines(tmp_path / "1") == lines(tmp_path / "2")


@with_ray
@exact
@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_a_killed_worker_loses_nothing(
    start: Start, tmp_path: Path, cluster: None, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ended by Ray while it is asked, one by the system between two rounds."""
    import ray

    changes: dict[str, Any] = LATE if late else {"rollout": SMALL}
    alone, helped = start.lm(), start.lm()
    run(start, tmp_path / "alone", config(**changes), SAVED, alone)
    ask, killed = Round._ask, []

    def kill(self: Round, step: int, *args: Any) -> Any:
        who: Any = self.answers
        if step == 1:
            killed.append(ray.get(who.actors[1].__ray_call__.remote(lambda actor: os.getpid())))
            os.kill(killed[-1], signal.SIGKILL)
        answers = ask(self, step, *args)
        if step == 3:
            killed.append(who.actors[0])
            ray.kill(who.actors[0])
        return answers

    monkeypatch.setattr(Round, "_ask", kill)
    run(start, tmp_path / "helped", config(**changes, workers=2), SAVED, helped)
    assert len(killed) == 2 and same(alone, helped)
    assert lines(tmp_path / "alone") == lines(tmp_path / "helped")


@with_ray
@pytest.mark.slow
def test_faults_of_workers_are_told(start: Start, tmp_path: Path, cluster: None) -> None:
    from orrery.tune.rl.workers.group import workers

    with pytest.raises(OrreryError, match="leaves no room"):  # as it is said without workers
        run(start, tmp_path / "long", config(rollout={"max_tokens": 60}, workers=2), FEW)
    late = config(rollout=SMALL, workers=1, cluster={"timeout_s": 0.001, "restarts": 1})
    with workers(late, start.lm(), system="", virtual=0, deterministic=True) as who:
        answers = who.ask(asked(late, tmp_path), **HOW)  # type: ignore[arg-type]
        with pytest.raises(
            OrreryError, match=r"worker 0 took more than 0\.001 s 2 times .*rl\.cluster\.timeout_s"
        ):
            answers()
