"""Going on after an interruption gives the bits of an unbroken run: losses, gradient norms, rates, samples, weights, moments."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forge import Forge
from training_run import DENSE, MOE, TinyLoader, config, drawn, go, held_out_loss, trace, weights_sha

from orrery.data.clean import CleanConfig
from orrery.data.loader import Loader, LoaderConfig
from orrery.data.prepare import PrepareConfig, prepare
from orrery.data.shard import Shards
from orrery.data.source import FilesSource
from orrery.kit.errors import OrreryError
from orrery.train.checkpoint import Checkpoints
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.early_stop import EarlyStop
from orrery.train.journal import read_journal
from orrery.train.loop import TrainResult
from orrery.train.optim import config as optim
from orrery.train.precision import bf16_is_fast
from orrery.train.signals import Interrupted
from orrery.train.state import TrainState


@dataclass(frozen=True)
class Bell(TinyLoader):
    """A loader that sends this process a signal while it is asked for (step, micro)."""

    at: tuple[int, int] = (0, 0)
    number: int = signal.SIGINT

    def batch(self, step: int, micro: int = 0) -> Any:
        if (step, micro) == self.at:
            os.kill(os.getpid(), self.number)
        return super().batch(step, micro)


def broken(
    out: Path, cfg: TrainConfig, stops: tuple[int, ...], *, model: Any = DENSE, **loader: Any
) -> TrainResult:
    """Run with an interruption in each of the steps `stops`, then to the end."""
    for step in stops:
        with pytest.raises(Interrupted) as caught:
            go(out, cfg, model=model, loader=Bell(at=(step, 0), **loader))
        assert caught.value.step == step + 1
        assert Checkpoints(out / "checkpoints").steps()[-1] == step + 1
    return go(out, cfg, model=model, loader=TinyLoader(**loader))


VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optimizer": optim.Muon(lr=3e-3)},
    "muon with qk-clip": {"optimizer": optim.Muon(lr=3e-2, qk_clip=0.05)},
    "adafactor": {"optimizer": optim.Adafactor()},
    "sgd": {"optimizer": optim.SGD(lr=0.1)},
    "momentum": {"optimizer": optim.SGD(lr=0.05, momentum=0.9, nesterov=True)},
    "rmsprop": {"optimizer": optim.RMSprop(momentum=0.5)},
    "adagrad": {"optimizer": optim.Adagrad()},
    "average, smoothing, z-loss": {"ema": 0.9, "label_smoothing": 0.1, "z_loss": 1e-3},
    "early stopping": {
        "early_stop": EarlyStop(patience=2, min_delta=0.2),
        "validate_every": 4,
        "optimizer": optim.AdamW(lr=2e-2),
    },
    "activation checkpointing": {"activation_checkpointing": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_three_interruptions_leave_no_trace(tmp_path: Path, name: str) -> None:
    cfg = config(**VARIANTS[name])
    whole = go(tmp_path / "whole", cfg)
    parts = broken(tmp_path / "parts", cfg, (4, 9, 17))
    expected = trace(tmp_path / "whole") if not whole.stopped_early else None
    assert (parts.resumed_from, whole.resumed_from) == (18, None)
    assert (parts.loss, parts.best, parts.best_step, parts.steps) == (
        whole.loss,
        whole.best,
        whole.best_step,
        whole.steps,
    )
    assert trace(tmp_path / "parts") == (expected or trace(tmp_path / "whole"))
    if name == "early stopping":
        assert whole.stopped_early and 18 < whole.steps < 40


def test_mixture_of_experts_too(tmp_path: Path) -> None:
    go(tmp_path / "whole", model=MOE)
    broken(tmp_path / "parts", config(), (0, 11), model=MOE)
    whole = trace(tmp_path / "whole")
    assert whole == trace(tmp_path / "parts")
    assert any(name.endswith("expert_bias") for name in whole["tensors"])


@pytest.mark.skipif(not bf16_is_fast(), reason="this CPU has no instructions for bf16")
def test_in_bf16_too(tmp_path: Path) -> None:
    cfg = config(precision="bf16", steps=12)
    go(tmp_path / "whole", cfg)
    broken(tmp_path / "parts", cfg, (5,))
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def test_a_signal_within_an_accumulation_window(tmp_path: Path) -> None:
    """TR-09: the step is finished, then saved."""
    cfg = config(steps=10)
    go(tmp_path / "whole", cfg, loader=TinyLoader(micro_batches=3))
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", cfg, loader=Bell(micro_batches=3, at=(4, 1)))
    assert go(tmp_path / "parts", cfg, loader=TinyLoader(micro_batches=3)).resumed_from == 5
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def test_no_sample_is_repeated_or_left_out(tmp_path: Path) -> None:
    """TR-06: three interruptions; every step's documents are those of the unbroken run."""
    cfg = config(steps=24)
    go(tmp_path / "whole", cfg, loader=TinyLoader(witness=tmp_path / "a"))
    for step in (3, 8, 15):
        with pytest.raises(Interrupted):
            go(tmp_path / "parts", cfg, loader=Bell(witness=tmp_path / "b", at=(step, 0)))
    go(tmp_path / "parts", cfg, loader=TinyLoader(witness=tmp_path / "b"))
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    assert len(read_journal(tmp_path / "b")) == 24  # a stop by signal does no step twice
    documents = [n for line in read_journal(tmp_path / "b") for n in line["documents"]]
    assert documents == list(range(24 * 3))


def test_other_micro_batches_same_rows(tmp_path: Path) -> None:
    """A resumed run may cut its rows into other micro-batches: same documents, same result within rounding."""
    cfg, still = config(steps=10), DENSE
    go(tmp_path / "whole", cfg, model=still, loader=TinyLoader(rows=4, micro_batches=1))
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", cfg, model=still, loader=Bell(rows=4, micro_batches=1, at=(4, 0)))
    go(
        tmp_path / "parts",
        cfg,
        model=still,
        loader=TinyLoader(rows=2, micro_batches=2, witness=tmp_path / "w"),
    )
    assert [n for line in read_journal(tmp_path / "w") for n in line["documents"]] == list(range(20, 40))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_save_and_say_how_to_go_on(tmp_path: Path, number: int) -> None:
    """TR-05."""
    before = signal.getsignal(number)
    with pytest.raises(
        Interrupted, match="stopped after step 3 of 40, which is saved; the same command goes on"
    ):
        go(tmp_path / "run", loader=Bell(at=(2, 0), number=number))
    assert signal.getsignal(number) == before
    assert issubclass(Interrupted, KeyboardInterrupt)


def test_a_second_ctrl_c_stops_at_once_and_breaks_nothing(tmp_path: Path) -> None:
    """TR-05: it comes while the checkpoint is being written."""
    go(tmp_path / "whole")
    count = 0

    def impatient(model: Any, step: int) -> str:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return weights_sha(model)

    with pytest.raises(KeyboardInterrupt) as caught:
        go(tmp_path / "parts", sample=impatient)
    assert not isinstance(caught.value, Interrupted)
    assert go(tmp_path / "parts").resumed_from == 14
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = go(tmp_path / "run")
    again = go(tmp_path / "run", loader=TinyLoader(witness=tmp_path / "w"))
    assert again.resumed_from == again.steps == 40 and not (tmp_path / "w").exists()
    assert (again.loss, again.best, again.tokens) == (first.loss, first.best, first.tokens)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TR-04: one flipped bit in the newest; the run goes on from the one before, to the same end."""
    go(tmp_path / "whole")
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", loader=Bell(at=(23, 0)))
    newest = tmp_path / "parts" / "checkpoints" / "step-00000024" / "model.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    assert go(tmp_path / "parts").resumed_from == 21
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "step-00000024/model.safetensors' is not what was written" in said and "going on from step 21" in said
    )
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    """TR-19: learning rate, model, loader; TR-18: data."""
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        go(out, loader=Bell(at=(2, 0)))
    with pytest.raises(
        OrreryError, match=r"other settings \(optimizer\.lr: 0\.003 -> 0\.004; steps: 40 -> 50\)"
    ):
        go(out, config(optimizer=optim.AdamW(lr=4e-3), steps=50))
    with pytest.raises(OrreryError, match=r"model\.feed_forward\.d_ff"):
        go(out, model=MOE)
    with pytest.raises(OrreryError, match="the training data"):
        go(out, loader=TinyLoader(salt="changed"))
    with pytest.raises(OrreryError, match="the training data"):
        go(out, loader=TinyLoader(rows=4))
    assert go(out).resumed_from == 3


def test_settings_that_change_no_bit_may_change(tmp_path: Path) -> None:
    go(tmp_path / "whole")
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", loader=Bell(at=(12, 0)))
    other = config(
        checkpoint=CheckpointConfig(every_steps=3, keep_last=5), activation_checkpointing=True, max_skips=3
    )
    assert go(tmp_path / "parts", other).resumed_from == 13
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def test_code_and_thread_changes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted):
        go(tmp_path / "run", loader=Bell(at=(2, 0)))
    monkeypatch.setattr("orrery.train.state.code_hash", lambda: "other")
    go(tmp_path / "run", config())
    assert "these have changed: code" in " ".join(capsys.readouterr().err.split())


# TR-28: what is left out of the state must show. Each entry loses one part of what a checkpoint holds.
LOST: dict[str, Callable[[TrainState], None]] = {
    "moments": lambda state: state.optimizer.load_state_tensors({}, state.optimizer.state_tensors()[1]),
    "average": lambda state: state.ema and [shadow.zero_() for shadow in state.ema.shadow.values()],  # type: ignore[func-returns-value]
    "data cursor": lambda state: setattr(state, "step", state.step - 1),
    "spike window": lambda state: state.spikes.values.clear(),
    "early stopping": lambda state: setattr(state.stopper, "since_best", 0),
    "best validation": lambda state: setattr(state, "best", None),
    "gap": lambda state: setattr(state, "nats", 0.0),
    "token count": lambda state: setattr(state, "tokens", 0),
    "routing bias": lambda state: [b.zero_() for n, b in state.model.named_buffers() if n.endswith("expert_bias")],  # type: ignore[func-returns-value]
    "weights": lambda state: state.model.reset_parameters(1),
    "loss scale": lambda state: state.scaler.load({"factor": 2.0, "good_steps": 1}),
    "dropout": lambda state: state.model.blocks[0].dropout.__setattr__("p", 0.2),
}  # fmt: skip


@pytest.mark.parametrize("lost", LOST)
def test_the_comparison_sees_every_part_that_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    cfg = config(steps=20, ema=0.9, early_stop=EarlyStop(patience=9, min_delta=1.0), validate_every=5)
    worse: Any = {
        "model": MOE,
        "validation": lambda model: -held_out_loss(model),
    }  # so that the best is not the newest
    go(tmp_path / "whole", cfg, **worse)
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", cfg, loader=Bell(at=(11, 0)), **worse)
    load = TrainState.load

    def forgetful(self: TrainState, checkpoint: Any) -> None:
        load(self, checkpoint)
        LOST[lost](self)

    monkeypatch.setattr(TrainState, "load", forgetful)
    go(tmp_path / "parts", cfg, **worse)
    assert trace(tmp_path / "whole") != trace(tmp_path / "parts")


def test_journals_end_up_as_an_unbroken_run_writes_them(tmp_path: Path) -> None:
    """Killed after step 24 with a checkpoint after 21: the lines of steps 21 to 23 are written anew, a torn one goes."""
    go(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="lights out"):
        go(tmp_path / "parts", sample=lambda model, step: weights_sha(model) if step < 25 else _lights_out())
    with open(tmp_path / "parts" / "metrics.jsonl", "a") as file:
        file.write('{"step": 24, "los')
    assert go(tmp_path / "parts").resumed_from == 21
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(40))
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")


def _lights_out() -> str:
    raise RuntimeError("lights out")


def kill_at_random(forge: Forge, folder: Path, *, kills: int, model: str, seed: int) -> int:
    """TR-01: SIGKILL at moments uniform over half a run's duration, until `kills` have hit; each run goes to its end."""
    job = {
        "model": model, "loader": {"micro_batches": 2},
        "config": {"steps": 60, "ema": 0.9, "validate_every": 6, "checkpoint": {"every_steps": 4, "every_seconds": None}},
    }  # fmt: skip
    whole, out = folder / "whole", folder / "parts"
    began = time.monotonic()
    assert forge.run({"out": str(whole), **job}) == 0
    duration, dice, hits, runs = time.monotonic() - began, random.Random(seed), 0, 0
    expected, documents = trace(whole), drawn(whole.with_suffix(".witness"))
    while hits < kills:
        child = forge.start({"out": str(out), **job})
        time.sleep(dice.uniform(0, 0.5 * duration))
        os.kill(child, signal.SIGKILL)
        if forge.wait(child) == -signal.SIGKILL:
            hits += 1
        else:  # it was done before: the first run's time was too long a measure, other work was going on then
            duration *= 0.7
        kept = Checkpoints(out / "checkpoints")
        if 60 in kept.steps() or hits == kills:
            assert forge.run({"out": str(out), **job}) == 0
            assert trace(out) == expected
            assert drawn(out.with_suffix(".witness")) == documents
            out, runs = folder / f"parts-{runs}", runs + 1
    return hits


@pytest.mark.parametrize("model", ["dense", "moe"])
def test_kill_minus_nine_at_random_moments(forge: Forge, tmp_path: Path, model: str) -> None:
    """Five kills, several of them within one run of 60 steps."""
    assert kill_at_random(forge, tmp_path, kills=5, model=model, seed=3) == 5


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dense", "moe"])
def test_kill_minus_nine_at_many_random_moments(forge: Forge, tmp_path: Path, model: str) -> None:
    assert kill_at_random(forge, tmp_path, kills=32, model=model, seed=7) == 32


class Bytes:
    """A tokenizer of 61 ids: what a loader of real shards needs."""

    fingerprint, vocab_size, bos_id, eos_id = "bytes", 61, None, 60

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [[byte % 60 for byte in text.encode()] for text in texts]


def prepared(folder: Path, *, documents: int = 30, salt: str = "") -> Shards:
    """A shard set of small documents, none held out but one or two."""
    (folder / "texts").mkdir(parents=True)
    for n in range(documents):
        words = " ".join(f"{salt}word{n}x{k}" for k in range(5 + n % 7))
        (folder / "texts" / f"{n:03}.txt").write_text(f"Document {n} says: {words}.\n")
    source = FilesSource(paths=(str(folder / "texts"),))
    made = prepare(PrepareConfig(source=source, clean=CleanConfig(min_chars=1)), Bytes(), folder / "data")
    return Shards(made.folder, "train")


class RealBell(Loader):
    """The real loader, with a signal to this process in step `at`."""

    at = -1

    def batch(self, step: int, micro: int = 0) -> Any:
        if step == self.at and micro == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().batch(step, micro)


def test_real_shards_three_interruptions_within_an_epoch(tmp_path: Path) -> None:
    """TR-06 with the real loader: every target of the epoch is learnt from once, and the end is bitwise the same."""
    shards = prepared(tmp_path)
    loader = Loader(shards, LoaderConfig(context=32, rows=2, micro_batches=2))
    epoch = int(loader.steps_per_epoch)
    assert epoch >= 10
    cfg = config(steps=epoch)
    go(tmp_path / "whole", cfg, loader=loader)
    for at in (2, epoch // 2, epoch - 3):
        bell = RealBell(shards, loader.config)
        bell.at = at
        with pytest.raises(Interrupted):
            go(tmp_path / "parts", cfg, loader=bell)
    go(tmp_path / "parts", cfg, loader=Loader(Shards(shards.folder, "train"), loader.config))
    assert trace(tmp_path / "whole") == trace(tmp_path / "parts")
    learnt = [
        (o.id, at) for step in range(epoch) for o in loader.lineage(step) for at in range(o.start, o.stop)
    ]
    assert len(learnt) == len(set(learnt)) > 0.8 * shards.n_tokens


def test_data_that_was_prepared_anew_is_refused(tmp_path: Path) -> None:
    """TR-18 with real shards."""
    bell = RealBell(prepared(tmp_path / "a"), LoaderConfig(context=32, rows=2))
    bell.at = 1
    with pytest.raises(Interrupted):
        go(tmp_path / "run", loader=bell)
    with pytest.raises(OrreryError, match="the training data"):
        go(tmp_path / "run", loader=Loader(prepared(tmp_path / "b", salt="other"), bell.config))
