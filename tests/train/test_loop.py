"""The loop as a whole: it learns, writes down what it did, and meets every kind of trouble with a sentence."""

from __future__ import annotations

import errno
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forge import Forge
from training_run import DENSE, MOE, TinyLoader, config, go, held_out_loss, sha, trace, weights_sha

from orrery.data.batch import Batch
from orrery.kit import files
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.train import saving
from orrery.train import step as step_module
from orrery.train.checkpoint import Checkpoints, only_one
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.early_stop import EarlyStop
from orrery.train.journal import read_journal
from orrery.train.loop import train
from orrery.train.loss import Loss
from orrery.train.objectives import MaskedLM
from orrery.train.optim.config import AdamW
from orrery.train.schedule import WSD, lr_at
from orrery.train.state import model_tensors

STILL = DecoderConfig(vocab_size=61, d_model=16, n_layers=2, n_heads=2)


def lines(out: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return read_journal(out / f"{name}.jsonl")


def test_it_learns_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(
        steps=150, optimizer=AdamW(lr=1e-2), sample_every=0.5, checkpoint=CheckpointConfig(every_seconds=None)
    )
    result = go(tmp_path, cfg, model=STILL, loader=TinyLoader(rows=8))
    metrics = lines(tmp_path)
    assert [line["step"] for line in metrics] == list(range(150))
    assert metrics[0]["loss"] > 4 and result.loss is not None and result.loss < 2.5
    assert result.validation == metrics[-1]["validation"] < 3
    assert [line["lr"] for line in metrics] == [1e-2 * lr_at(cfg.schedule, step, 150) for step in range(150)]
    assert (
        metrics[-1]["tokens"]
        == result.tokens
        == sum(len(TinyLoader(rows=8).batch(step)) for step in range(150))
    )
    assert all(line["tokens_per_s"] > 0 and 0 < line["mfu"] < 1 and line["grad_norm"] > 0 for line in metrics)
    assert [line["seconds"] for line in metrics] == sorted(line["seconds"] for line in metrics)
    assert [line["step"] for line in lines(tmp_path, "samples")] == [75, 150]
    assert 0 < result.utilisation < 1 and result.tokens_per_s > 0
    said = " ".join(capsys.readouterr().err.split())
    assert "150 steps," in said and "of this machine's measured matmul peak (" in said


def test_the_same_run_twice_is_the_same(tmp_path: Path) -> None:
    """TR-15."""
    for name in "ab":
        torch.rand(3)  # what was drawn before has no say
        go(tmp_path / name, config(steps=15), model=MOE)
    assert trace(tmp_path / "a") == trace(tmp_path / "b")


def test_activation_checkpointing_changes_no_bit(tmp_path: Path) -> None:
    for model, name in ((DENSE, "dense"), (MOE, "moe")):
        plain, less = tmp_path / name, tmp_path / f"{name}-less"
        go(plain, config(steps=8), model=model)
        go(less, config(steps=8, activation_checkpointing=True), model=model)
        assert trace(plain) == trace(less)


@pytest.mark.parametrize(
    "position", [{"kind": "t5"}, {"kind": "alibi"}, {"kind": "learned", "max_positions": 16}]
)
def test_activation_checkpointing_with_shared_positions(tmp_path: Path, position: dict[str, Any]) -> None:
    """Masks and biases are made by the first block and used by all; recomputing a block must not stumble over that."""
    model = resolve(
        DecoderConfig, {"vocab_size": 61, "d_model": 16, "n_layers": 2, "n_heads": 2, "position": position}
    )
    go(tmp_path / "plain", config(steps=4), model=model)
    go(tmp_path / "less", config(steps=4, activation_checkpointing=True), model=model)
    for a, b in zip(lines(tmp_path / "plain"), lines(tmp_path / "less"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


def test_the_model_is_left_as_it_was_found(tmp_path: Path) -> None:
    model = Decoder(DENSE)
    names = set(vars(model.blocks[0]))
    train(config(steps=2, activation_checkpointing=True), model=model, loader=TinyLoader(), out=tmp_path)
    assert set(vars(model.blocks[0])) == names and not model.training


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns of itself within torch.compile
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")
@pytest.mark.parametrize("recompute", [False, True])
def test_compiled_blocks_give_the_same_losses(tmp_path: Path, recompute: bool) -> None:
    """And new lengths of documents in every batch do not mean compiling anew."""
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    go(tmp_path / "plain", config(steps=12), model=STILL)
    go(tmp_path / "compiled", config(steps=12, compile=True, activation_checkpointing=recompute), model=STILL)
    for a, b in zip(lines(tmp_path / "plain"), lines(tmp_path / "compiled"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert 0 < graphs < 20


def test_no_compiler_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(OrreryError, match=r"needs a C\+\+ compiler and none was found"):
        go(tmp_path / "run", config(compile=True))


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    seen: list[str] = []
    model = Decoder(DENSE, seed=1)

    def validation(shown: Decoder) -> float:
        assert not shown.training and not torch.is_grad_enabled()
        seen.append(sha(*model_tensors(shown).values()))
        return held_out_loss(shown)

    cfg = config(steps=10, ema=0.5, validate_every=10)
    result = train(cfg, model=model, loader=TinyLoader(), out=tmp_path, validation=validation)
    saved = Checkpoints(tmp_path / "checkpoints").load(10)
    assert seen == [sha(*model_tensors(model).values())]
    for name, value in model_tensors(model).items():
        assert torch.equal(value, saved.tensors["ema"][name])
        assert not torch.equal(value, saved.tensors["model"][name])
    assert result.validation == held_out_loss(model)


def test_the_average_by_hand(tmp_path: Path) -> None:
    """s <- d s + (1 - d) w over the weights after each step, from the first weights."""
    weights = []
    model = Decoder(STILL, seed=1)
    shadow = model.embed.weight.detach().clone()

    def sample(shown: Decoder, step: int) -> str:
        return ""

    cfg = config(
        steps=3,
        ema=0.75,
        sample_every=None,
        validate_every=None,
        checkpoint=CheckpointConfig(every_steps=1, keep_last=9),
    )
    train(cfg, model=model, loader=TinyLoader(), out=tmp_path, sample=sample)
    for step in (1, 2, 3):
        weights.append(Checkpoints(tmp_path / "checkpoints").load(step).tensors["model"]["embed.weight"])
        shadow = 0.75 * shadow + 0.25 * weights[-1]
    torch.testing.assert_close(model.embed.weight.detach(), shadow, rtol=1e-6, atol=1e-7)


def test_early_stopping_goes_back_to_the_best(tmp_path: Path) -> None:
    values = iter([5.0, 4.0, 3.0, 3.5, 3.2, 9.0, 9.0])
    model = Decoder(DENSE, seed=1)
    cfg = config(steps=100, validate_every=4, early_stop=EarlyStop(patience=3))
    result = train(cfg, model=model, loader=TinyLoader(), out=tmp_path, validation=lambda _: next(values))
    assert (result.stopped_early, result.steps, result.best, result.best_step) == (True, 24, 3.0, 12)
    best = Checkpoints(tmp_path / "checkpoints").load(12).tensors["model"]
    assert all(torch.equal(value, best[name]) for name, value in model_tensors(model).items())
    assert lines(tmp_path, "events")[-1] == {
        "step": 23,
        "event": "stopped early",
        "best": 3.0,
        "best_step": 12,
    }
    again = train(cfg, model=Decoder(DENSE), loader=TinyLoader(), out=tmp_path, validation=lambda _: math.nan)
    assert again.stopped_early and again.steps == 24


def test_the_gap_is_in_the_unit_of_the_validation(tmp_path: Path) -> None:
    cfg = config(steps=6, validate_every=3, sample_every=None)
    go(tmp_path / "nats", cfg, validation=lambda _: 4.0)
    go(tmp_path / "bits", cfg, validation=lambda _: 4.0, bytes_per_token=3.0)
    metrics, tokens = lines(tmp_path / "nats"), [len(TinyLoader().batch(step)) for step in range(6)]
    for end in (3, 6):
        part = range(end - 3, end)
        trained = sum(metrics[i]["loss"] * tokens[i] for i in part) / sum(tokens[i] for i in part)
        assert metrics[end - 1]["gap"] == pytest.approx(4.0 - trained, rel=1e-9)
        in_bits = lines(tmp_path / "bits")[end - 1]["gap"]
        assert in_bits == pytest.approx(4.0 - trained / math.log(2) / 3.0, rel=1e-9)


def test_a_validation_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    values = iter([math.nan, 2.0, math.inf, 3.0])
    result = go(tmp_path, config(steps=8, validate_every=2), validation=lambda _: next(values))
    assert (result.best, result.best_step) == (2.0, 4)
    assert [line.get("validation", "-") for line in lines(tmp_path)][1::2] == [None, 2.0, None, 3.0]


def test_callbacks_have_no_say_in_the_training(tmp_path: Path) -> None:
    """A validation or a sample that draws random numbers does not change what the next step draws."""
    go(tmp_path / "quiet", config(steps=12), sample=None, validation=None)
    go(tmp_path / "noisy", config(steps=12, sample_every=1), sample=lambda *_: str(torch.rand(1)))
    quiet, noisy = lines(tmp_path / "quiet"), lines(tmp_path / "noisy")
    assert [line["loss"] for line in quiet] == [line["loss"] for line in noisy]
    texts = [line["text"] for line in lines(tmp_path / "noisy", "samples")]
    go(tmp_path / "again", config(steps=12, sample_every=1), sample=lambda *_: str(torch.rand(1)))
    assert texts == [line["text"] for line in lines(tmp_path / "again", "samples")] and len(set(texts)) == 12


@pytest.mark.parametrize("bad_steps", [{0}, {6}, {4, 5, 9}])
def test_non_finite_steps_are_skipped_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_steps: set[int]
) -> None:
    """TR-12: on the first step, on the step that is saved (7 steps done), several."""
    current: dict[str, int] = {}
    compute, seed = step_module.compute, step_module.seed_everything

    def remember(device: torch.device, number: int, *parts: Any) -> None:
        if parts[0] == "step":
            current["step"] = parts[1]
        seed(device, number, *parts)

    def poisoned(*args: Any, **kwargs: Any) -> Loss:
        loss = compute(*args, **kwargs)
        return Loss(loss.sum * (math.nan if current["step"] in bad_steps else 1.0), loss.weight, loss.stats)

    monkeypatch.setattr(step_module, "seed_everything", remember)
    monkeypatch.setattr(step_module, "compute", poisoned)
    result = go(tmp_path, config(steps=12, ema=0.9))
    metrics = lines(tmp_path)
    assert result.skipped == len(bad_steps) and result.steps == 12
    assert [line["step"] for line in metrics if "skipped" in line] == sorted(bad_steps)
    events = lines(tmp_path, "events")
    assert [(e["step"], e["event"], e["why"]) for e in events] == [
        (s, "skipped", "non-finite loss") for s in sorted(bad_steps)
    ]
    for event in events:
        pieces = TinyLoader().batch(event["step"]).pieces
        assert event["documents"] == [[0, piece.document, 0, piece.length] for piece in pieces]
    saved = Checkpoints(tmp_path / "checkpoints").load(12)
    assert saved.state["ema_updates"] == len(saved.state["spikes"]["values"]) == 12 - len(bad_steps)
    assert all(torch.isfinite(t).all() for group in saved.tensors.values() for t in group.values())
    json.loads(
        (tmp_path / "metrics.jsonl").read_text().splitlines()[min(bad_steps)], parse_constant=_no_constants
    )


def _no_constants(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def test_too_many_skips_in_a_row_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = step_module.compute
    monkeypatch.setattr(
        step_module,
        "compute",
        lambda *a, **k: Loss((loss := compute(*a, **k)).sum * math.inf, loss.weight, loss.stats),
    )
    with pytest.raises(
        OrreryError, match=r"4 steps in a row had to be skipped, the last one step 3 \(non-finite loss\)"
    ):
        go(tmp_path, config(max_skips=4))


def test_spikes_are_logged_with_their_documents(tmp_path: Path) -> None:
    """TR-13: a batch of noise within a learnt pattern."""

    class Noise(TinyLoader):
        def batch(self, step: int, micro: int = 0) -> Batch:
            batch = super().batch(step, micro)
            if step == 120:
                ids = torch.randint(0, 61, (len(batch),), generator=torch.Generator().manual_seed(0))
                object.__setattr__(batch, "targets", ids)
            return batch

    cfg = config(steps=130, optimizer=AdamW(lr=1e-2), sample_every=None, validate_every=None)
    result = go(tmp_path, cfg, model=STILL, loader=Noise(rows=16, seed=5))
    spikes = [event for event in lines(tmp_path, "events") if event["event"] == "spike"]
    assert [event["step"] for event in spikes] == [120] and result.spikes == 1
    assert spikes[0]["sigmas"] > 6
    assert [piece[1] for piece in spikes[0]["documents"]] == list(range(120 * 16, 121 * 16))


class Sick(files.FileOps):
    """A disk that refuses checkpoints while `ill`."""

    def __init__(self) -> None:
        self.ill, self.refused = True, 0

    def write(self, path: Path, data: bytes) -> None:
        if self.ill and path.suffix == ".safetensors":
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(path, data)


def test_a_save_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TR-03: the disk is full for a while; training goes on and ends with the same bits."""
    go(tmp_path / "whole", config(steps=30))
    disk = Sick()
    monkeypatch.setattr(files, "ops", disk)
    monkeypatch.setattr(saving, "WAIT_S", 0.0)

    def sample(model: Decoder, step: int) -> str:
        disk.ill = step < 10
        return weights_sha(model)

    saves = CheckpointConfig(every_steps=7, keep_last=9)
    go(
        tmp_path / "sick",
        config(steps=30, validate_every=None, sample_every=1, checkpoint=saves),
        sample=sample,
    )
    assert disk.refused == 3  # after steps 7, 8 and 9: a failed save does not wait for the next regular one
    assert Checkpoints(tmp_path / "sick" / "checkpoints").steps() == [10, 14, 21, 28, 30]
    said = " ".join(capsys.readouterr().err.split())
    assert "No space left on device" in said and "training goes on" in said
    monkeypatch.undo()
    assert weights(tmp_path / "whole", 30) == weights(tmp_path / "sick", 30)


def weights(out: Path, step: int) -> str:
    tensors = Checkpoints(out / "checkpoints").load(step).tensors["model"]
    return sha(*(tensors[name] for name in sorted(tensors)))


def test_a_disk_that_stays_full_ends_the_run_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TR-03: after five tries; the checkpoint before is intact."""
    go(tmp_path, config(steps=7, validate_every=None))
    shutil.rmtree(tmp_path / "checkpoints")
    monkeypatch.setattr(files, "ops", Sick())
    monkeypatch.setattr(saving, "WAIT_S", 0.0)
    with pytest.raises(
        OrreryError,
        match=r"no checkpoint could be saved after step 11: .*No space left .*nothing was saved yet",
    ):
        go(tmp_path, config(steps=40, validate_every=None))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OrreryError, match="cannot write in"):
        go(tmp_path / "file" / "run")


def test_two_trainers_on_one_folder(tmp_path: Path) -> None:
    """TR-24."""
    with only_one(tmp_path), pytest.raises(OrreryError, match="another process is training"):
        go(tmp_path)


def test_memory_that_runs_out_is_a_sentence_and_the_checkpoint_is_good(forge: Forge, tmp_path: Path) -> None:
    """TR-26: the address space is limited in the middle of a run."""
    assert (
        forge.run({"do": "little memory", "out": str(tmp_path / "run"), "answer": str(tmp_path / "answer")})
        == 0
    )
    sentence = (tmp_path / "answer").read_text()
    assert sentence.startswith(
        "not enough memory in step 9 (the checkpoint after step 7 is good); use fewer rows"
    )
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert newest is not None and newest.state["step"] == 7


def test_clocks_that_jump_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TR-27: only the monotonic clock is read."""
    hours = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: next(hours))
    result = go(tmp_path, config(steps=10))
    assert result.seconds < 60 and all(line["seconds"] < 60 for line in lines(tmp_path))


def test_progress_is_told_but_not_too_often(tmp_path: Path) -> None:
    class Ear:
        def __init__(self) -> None:
            self.heard: list[tuple[float, float, dict[str, Any]]] = []

        def update(self, done: float, total: float | None, **fields: Any) -> None:
            self.heard.append((time.monotonic(), done, {"total": total, **fields}))

    ear = Ear()
    began = time.monotonic()
    go(tmp_path, config(steps=60), progress=ear)
    assert len(ear.heard) <= 2 + (time.monotonic() - began) / 0.1
    assert ear.heard[0][1] == 1 and ear.heard[-1][1] == 60
    assert ear.heard[-1][2].keys() == {"total", "loss", "tokens_per_s"} and ear.heard[-1][2]["total"] == 60


def test_log_every(tmp_path: Path) -> None:
    go(tmp_path, config(steps=23, log_every=5, validate_every=8, sample_every=None))
    assert [line["step"] for line in lines(tmp_path)] == [4, 7, 9, 14, 15, 19, 22]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "either 'steps' or 'minutes'"),
        ({"steps": 5, "minutes": 1}, "either 'steps' or 'minutes'"),
        ({"steps": 5, "clip_value": 1.0}, "two ways to clip"),
        (
            {"steps": 5, "early_stop": {}, "checkpoint": {"keep_best": 0}},
            "'early_stop' goes back to the best",
        ),
        ({"steps": 0}, "'steps'"),
        ({"steps": 5, "validate_every": 1.5}, "'validate_every"),
        ({"steps": 5, "optimizer": {"kind": "muun"}}, "Did you mean 'muon'"),
        ({"steps": 5, "emma": 0.9}, "Did you mean 'ema'"),
        ({"steps": 5, "checkpoint": {"every_step": 5}}, "Did you mean 'every_steps'"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OrreryError, match=sentence):
        resolve(TrainConfig, settings)


def test_settings_that_do_not_fit_the_run(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="needs special tokens"):
        go(tmp_path, config(objective=MaskedLM()))
    with pytest.raises(OrreryError, match="do not fit into 40 steps"):
        go(tmp_path, config(schedule=WSD(warmup=50)))


def test_ids_beyond_the_vocabulary_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OrreryError, match="the model knows only ids below 61"):
        go(tmp_path, loader=TinyLoader(vocab=300))


def test_intervals_keep_their_kind_through_yaml_and_back() -> None:
    cfg = resolve(TrainConfig, {"steps": 10, "validate_every": 5, "sample_every": 0.25})
    assert (type(cfg.validate_every), type(cfg.sample_every)) == (int, float)
    assert resolve(TrainConfig, {"steps": 10}) == TrainConfig(steps=10)
