"""The loop as a whole: every loss learns what it should, the win-rate rises, and a run that is killed goes on bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.kit.log import read_jsonl
from orrery.model.adapters import AdapterSlots, Lora, Prefix
from orrery.serve.lm import LM
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.train.state import model_tensors
from orrery.tune.preference import trainer
from orrery.tune.preference.objective import Objective
from orrery.tune.subject import Subject, beside

from .start import LOOP, Start, comparisons, config, run, taught, win_rate

FEW = dataclasses.replace(LOOP, steps=3)
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.5}, "robust": {"beta": 0.5}, "ipo": {"beta": 0.5}, "hinge": {"beta": 0.5}, "apo": {"beta": 0.5}, "kto": {"beta": 0.5},
    "orpo": {"weight": 1.0}, "simpo": {}, "cpo": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def start() -> Start:
    return taught()


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_ranks_better_what_it_never_saw(start: Start, tmp_path: Path, kind: str) -> None:
    lm = start.lm()
    result = run(start, tmp_path / "run", config(loss={"kind": kind, **LOSSES[kind]}), LOOP, lm)
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert result.before is not None and result.after is not None and result.kl is not None
    assert (
        result.after.accuracy > max(0.9, result.before.accuracy + 0.2)
        and result.after.margin > result.before.margin
    )
    assert result.after.loss < result.before.loss and result.kl > 1e-4
    sides = ("up", "down") if kind == "kto" else ("chosen", "rejected")
    logp = [lines[-1][f"logp_{side}"] - lines[0][f"logp_{side}"] for side in sides]
    assert logp[0] > logp[1]
    needs = kind not in ("orpo", "simpo", "cpo")
    assert needs == any(tmp_path.glob("run/*reference.safetensors")) == (f"drift_{sides[0]}" in lines[0])


def test_preferences_raise_the_win_rate_over_the_model_before(start: Start, tmp_path: Path) -> None:
    """A judge who likes capitals: the model before gives either with equal chances."""
    before, after = start.lm(), start.lm()
    run(start, tmp_path / "run", config(loss={"kind": "dpo", "beta": 0.5}), LOOP, after)
    assert win_rate(before, start.lm()) == 0.5
    assert win_rate(after, before) > 0.65


def test_the_first_loss_of_dpo_is_ln_2_and_margins_are_logged(start: Start, tmp_path: Path) -> None:
    result = run(start, tmp_path / "run", config(), dataclasses.replace(FEW, validate_every=1))
    first, *_, last = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5) and abs(first["drift_chosen"]) < 1e-4
    assert result.before is not None and result.before.loss == pytest.approx(math.log(2), abs=1e-5)
    for name in (
        "reward_chosen",
        "reward_rejected",
        "margin",
        "accuracy",
        "logp_chosen",
        "validation",
        "heldout_accuracy",
        "heldout_margin",
        "kl_start",
    ):
        assert isinstance(last[name], float)
    assert last["margin"] == pytest.approx(last["reward_chosen"] - last["reward_rejected"], abs=1e-6)
    assert last["reward_chosen"] == pytest.approx(0.1 * last["drift_chosen"], rel=1e-4, abs=1e-7)


def test_micro_batches_do_not_show_in_the_loss(start: Start, tmp_path: Path) -> None:
    """Of KTO the reference point is one for the whole step."""
    for kind in ("dpo", "kto", "orpo"):
        losses = []
        for pairs, micro in ((8, 1), (2, 4)):
            cfg = config(loss={"kind": kind}, loader={"context": 64, "pairs": pairs, "micro_batches": micro})
            run(start, tmp_path / f"{kind}{pairs}", cfg, FEW)
            losses.append(
                [line["loss"] for line in read_jsonl(tmp_path / f"{kind}{pairs}" / "metrics.jsonl")]
            )
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_run_that_dies_goes_on_bit_for_bit(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    every = CheckpointConfig(every_steps=2, every_seconds=None, keep_best=0)
    loop = TrainConfig(
        steps=5, precision="fp32", optimizer=AdamW(lr=1e-3), schedule=Constant(), checkpoint=every
    )
    cfg = config(loss={"kind": kind})
    whole, again = start.lm(), start.lm()
    straight = run(start, tmp_path / "whole", cfg, loop, whole)
    call, calls = Objective.__call__, []

    def die(self: Objective, *args: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return call(self, *args)

    monkeypatch.setattr(Objective, "__call__", die)
    with pytest.raises(KeyboardInterrupt):
        run(start, tmp_path / "killed", cfg, loop)
    resumed = run(start, tmp_path / "killed", cfg, loop, again)
    assert resumed.training.resumed_from == 2 and len(calls) == 4 + 3
    one, other = model_tensors(whole.model), model_tensors(again.model)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (straight.before, straight.after, straight.kl) == (resumed.before, resumed.after, resumed.kl)

    def timeless(folder: Path) -> list[dict[str, Any]]:
        timed = ("seconds", "tokens_per_s", "mfu")
        return [
            {k: v for k, v in line.items() if k not in timed} for line in read_jsonl(folder / "metrics.jsonl")
        ]

    assert timeless(tmp_path / "whole") == timeless(tmp_path / "killed")


def test_the_reference_is_read_once_and_found_again(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(start, tmp_path / "run", config(), FEW)
    read: list[int] = []
    from orrery.tune.preference import reference

    real = reference.read_items
    monkeypatch.setattr(reference, "read_items", lambda *a, **k: read.append(1) or real(*a, **k))
    run(start, tmp_path / "run", config(), FEW)
    assert not read
    path = next(tmp_path.glob("run/heldout-reference.safetensors"))
    path.write_bytes(path.read_bytes()[:-8])  # cut off
    run(start, tmp_path / "run", config(), FEW)
    assert len(read) == 1
    other = start.lm()
    with torch.no_grad():
        next(other.model.parameters()).mul_(1.01)
    found = comparisons(start, tmp_path / "data", config())
    reference.referenced("heldout", found.heldout, other.model, keep=tmp_path / "run")
    assert len(read) == 2  # another model


@pytest.mark.parametrize("kind", ["lora", "prefix"])
def test_an_adapter_refers_to_its_frozen_model(start: Start, tmp_path: Path, kind: str) -> None:

    lm = start.lm()
    lm.model.requires_grad_(False)
    adapter = beside(lm.model, Lora(rank=4) if kind == "lora" else Prefix(), seed=0)
    subject = Subject(
        model=lm.model,
        tokenizer=lm.tokenizer,
        chat=lm.chat,
        adapter=adapter,
        parent_vocab=lm.model.cfg.vocab_size,
    )
    frozen = {n: p.detach().clone() for n, p in lm.model.named_parameters() if not p.requires_grad}
    loop = dataclasses.replace(LOOP, steps=30, optimizer=AdamW(lr=2e-2))
    result = run(
        start,
        tmp_path / "run",
        config(loss={"kind": "dpo", "beta": 0.5}),
        loop,
        lm,
        parent=subject.parent,
        virtual=subject.placeholders,
    )
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    if kind == "lora":  # which begins as its model
        assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert (
        result.before is not None
        and result.after is not None
        and result.after.accuracy > result.before.accuracy
    )
    assert all(torch.equal(p, frozen[n]) for n, p in lm.model.named_parameters() if n in frozen)
    assert AdapterSlots.of(lm.model).default is not None


def test_as_many_steps_as_fit_into_the_minutes(start: Start, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, steps=None, minutes=0.02)
    result = run(start, tmp_path / "timed", config(loss={"kind": "kto"}), loop)
    assert result.training.steps == result.training.total >= 1
    run(start, tmp_path / "told", config(loss={"kind": "kto"}), dataclasses.replace(LOOP, steps=1))
    timed, told = (read_jsonl(tmp_path / name / "metrics.jsonl")[0] for name in ("timed", "told"))
    assert timed["loss"] == told["loss"] and timed["point"] == told["point"]  # the trial left no trace


def test_nothing_is_dropped_while_it_learns(start: Start, tmp_path: Path) -> None:
    lm = start.lm()
    lm.model.dropout.p = 0.5
    run(start, tmp_path / "run", config(), dataclasses.replace(FEW, steps=1), lm)
    (line,) = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert line["loss"] == pytest.approx(math.log(2), abs=1e-5) and lm.model.dropout.p == 0.5


def test_what_does_not_go_together_is_refused(start: Start, tmp_path: Path) -> None:
    run(start, tmp_path / "run", config(), FEW)
    with pytest.raises(OrreryError, match="holds a run with other"):
        run(start, tmp_path / "run", config(loss={"kind": "ipo"}), FEW)
    with pytest.raises(OrreryError, match="loss of its own"):
        run(start, tmp_path / "x", config(), dataclasses.replace(FEW, z_loss=0.1))
    with pytest.raises(OrreryError, match="nothing to learn from"):
        trainer.prefer(config(), FEW, lm=start.lm(), out=tmp_path / "y")
    with pytest.raises(OrreryError, match=r"is left to learn from.*raise loader.context"):
        comparisons(start, tmp_path / "data", config(loader={"context": 4}))
    assert isinstance(start.lm(), LM)
