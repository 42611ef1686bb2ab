"""Exhibits of a run: recomputing instead of keeping, noticing spikes, going on after a crash, ending well."""

from __future__ import annotations

import hashlib
import html.entities
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from orrery.data.batch import Batch, batch_of
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _prepared, _tiny
from orrery.kit.log import console
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.train.blocks import recomputed
from orrery.train.checkpoint import Checkpoints
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.journal import read_journal
from orrery.train.loop import train
from orrery.train.monitor import SpikeMonitor, Utilisation, matmul_peak
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW, Muon
from orrery.train.schedule import WSD, Constant, lr_at


class _Loader:
    """Bytes of a text as batches by step; `fails_at` is a step at which it breaks."""

    config = SimpleNamespace(micro_batches=1)
    rank, world = 0, 1
    fingerprint = "bytes"

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at

    def batch(self, step: int, micro: int = 0) -> Batch:
        if step == self.fails_at:
            raise RuntimeError("the power went")
        tokens, targets = _tiny.draw(step, 4)
        last = targets.view(4, -1)[:, -1:]
        return batch_of(torch.cat([tokens.view(4, -1), last], 1).tolist())


@contextmanager
def _quiet() -> Iterator[None]:
    console.quiet, before = True, console.quiet
    try:
        yield
    finally:
        console.quiet = before


def _run(out: Path, *, steps: int, fails_at: int | None = None) -> Decoder:
    cfg = TrainConfig(
        steps=steps, optimizer=AdamW(lr=3e-3), schedule=WSD(warmup=2), precision="fp32", validate_every=None,
        checkpoint=CheckpointConfig(every_steps=3, every_seconds=None),
    )  # fmt: skip
    model = Decoder(_tiny.shape())
    with _quiet():
        train(cfg, model=model, loader=_Loader(fails_at), out=out)
    return model


def interrupted_and_resumed() -> Exhibit:
    """A run of 12 steps, and one that breaks at step 8 and is called again: losses, weights, checkpoints."""
    with _prepared.folder() as where:
        whole = _run(where / "whole", steps=12)
        with suppress(RuntimeError):
            _run(where / "broken", steps=12, fails_at=8)
        left = Checkpoints(where / "broken" / "checkpoints").steps()
        again = _run(where / "broken", steps=12)
        logs = [
            {r["step"]: r["loss"] for r in read_journal(where / name / "metrics.jsonl")}
            for name in ("whole", "broken")
        ]
        after = Checkpoints(where / "broken" / "checkpoints").steps()
    hashes = [
        hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in m.parameters())).hexdigest()[:16]
        for m in (whole, again)
    ]
    return Exhibit(
        title=f"A checkpoint every 3 steps; at step 8 the power goes, with {left} on disk",
        columns=("step", "loss, unbroken", "loss, broken and resumed", "same bits"),
        rows=[(step, logs[0][step], logs[1][step], logs[0][step] == logs[1][step]) for step in logs[0]],
        reads=f"The second call went on from step {max(left)}, did steps {max(left)} and 7 again, and ended with the same weights ({hashes[0]} and {hashes[1]}); "
        f"kept are {after}. Nothing but weights, moments and counts had to be saved, because data and randomness are functions of the step.",
    )


def recomputation() -> Exhibit:
    """A decoder of eight layers with and without recomputing its blocks: gradients, bytes kept for backward, time."""
    model = Decoder(_tiny.shape(n_layers=8, d_model=64, feed_forward=Mlp(d_ff=192)))
    tokens, targets = _tiny.draw(0, 8)
    weights = {p.data_ptr() for p in model.parameters()}
    grads: dict[str, list[Tensor]] = {}
    rows = []
    for name in ("kept", "recomputed"):
        with recomputed(model) if name == "recomputed" else nullcontext():
            kept: dict[int, int] = {}

            def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                if tensor.numel() and tensor.data_ptr() not in weights:
                    kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            model.zero_grad()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = _tiny.loss(model, tokens, targets).mean()
            loss.backward()
            grads[name] = [p.grad.clone() for p in model.parameters() if p.grad is not None]
            best = min(_seconds(model, tokens, targets) for _ in range(3))
            rows.append((name, loss.item(), sum(kept.values()), 1e3 * best))
    same = all(torch.equal(a, b) for a, b in zip(grads["kept"], grads["recomputed"], strict=True))
    return Exhibit(
        title="8 layers, 64 wide, 512 tokens",
        columns=("activations", "loss", "bytes kept", "ms for forward and backward"),
        rows=rows,
        reads=f"Keeping each block's input alone and computing the rest again gives the same gradients bit for bit ({same}), for a fraction of the memory and "
        "about one forward pass more: a third of the work.",
    )


def _seconds(model: Decoder, tokens: Tensor, targets: Tensor) -> float:
    begun = time.perf_counter()
    _tiny.loss(model, tokens, targets).mean().backward()
    return time.perf_counter() - begun


def loss_spikes_noticed() -> Exhibit:
    """A run that meets two bad batches and then other text: what the shipped monitor calls a spike, and what a new level."""
    model = Decoder(_tiny.shape())
    _tiny.train(model, Muon(lr=0.02), steps=60, rows=4)
    optimizer = build_optimizer(model, AdamW(lr=1e-4))
    monitor, losses, rows = SpikeMonitor(window=32, least=16, patience=4), [], []
    noise = torch.randint(256, (4000,), generator=torch_generator(0, "spikes"))
    other = torch.tensor(list(repr(html.entities.html5).encode()[:20_000]))
    steps, bad, change = 70, (25, 38), 50
    for step in range(steps):
        what, ids = (
            ("random bytes", noise)
            if step in bad
            else ("other text", other)
            if step >= change
            else ("the text", None)
        )
        optimizer.zero_grad()
        loss = _tiny.loss(model, *_tiny.draw(100 + step, 4, ids=ids)).mean()
        loss.backward()
        losses.append(loss.item())
        if (height := monitor.see(loss.item())) is not None:
            rows.append((step, what, loss.item(), height))
        optimizer.step()
    return Exhibit(
        title=f"{steps} steps, two of them on random bytes, other text from step {change} on; a spike is 6 standard deviations above the mean",
        columns=("step", "what was read", "loss", "deviations above the mean"),
        rows=rows,
        series=[Series(name="loss", x=list(range(steps)), y=losses)],
        x="step", y="nats a byte",
        reads="A bad batch stands out, is noted with its documents and stays out of the statistics. When the loss stays high it is no spike but a new "
        "level: after four in a row the monitor begins anew and the alarms end.",
    )  # fmt: skip


def annealing_at_the_end() -> Exhibit:
    """One run at a constant rate, and the same run with its last quarter cooled down: held-out loss along the way."""
    ids = torch.frombuffer(bytearray("".join(_library.texts()[::2]).encode()), dtype=torch.uint8).long()
    unseen = torch.frombuffer(bytearray("".join(_library.texts()[1::2]).encode()), dtype=torch.uint8).long()
    steps, every = 96, 8
    curves: dict[str, list[float]] = {}
    for name, schedule in (("constant", Constant(warmup=4)), ("cooled down", WSD(warmup=4, decay=0.25))):
        model = Decoder(_tiny.shape())
        optimizer = build_optimizer(model, AdamW(lr=0.02))
        curves[name] = []
        for step in range(steps):
            optimizer.set_lr(lr_at(schedule, step, steps))
            optimizer.zero_grad()
            _tiny.loss(model, *_tiny.draw(step, 3, ids=ids)).mean().backward()
            optimizer.step()
            if (step + 1) % every == 0:
                with torch.no_grad():
                    curves[name].append(
                        _tiny.loss(model, *_tiny.draw(0, 32, ids=unseen, seed=7)).mean().item()
                    )
    x = list(range(every, steps + 1, every))
    return Exhibit(
        title="Held-out loss, nats a byte; the rate falls to zero over the last 24 of 96 steps",
        columns=("after step", *curves),
        rows=[(step, *(values[i] for values in curves.values())) for i, step in enumerate(x)],
        series=[Series(name=name, x=x, y=values) for name, values in curves.items()],
        x="step", y="nats a byte",
        reads="Both runs are the same until the rate begins to fall, and then one drops: at a high rate the weights swing about the valley's floor, "
        "and cooling lets them settle. What is read in these steps weighs most, which is why the best text is kept for them.",
    )  # fmt: skip


def continued_on_a_domain() -> Exhibit:
    """A decoder trained on code goes on with a table of HTML entities: its loss on both, with and without old text mixed in."""
    code = torch.frombuffer(bytearray("".join(_library.texts()[::2]).encode()), dtype=torch.uint8).long()
    table = torch.tensor(
        list("\n".join(f"&{name} {value}" for name, value in sorted(html.entities.html5.items())).encode())
    )
    held = {"code": code[-20_000:], "table": table[-6000:]}
    code, table = code[:-20_000], table[:-6000]

    def measure(model: Decoder) -> list[float]:
        with torch.no_grad():
            return [
                _tiny.loss(model, *_tiny.draw(0, 24, ids=ids, seed=3)).mean().item() for ids in held.values()
            ]

    base = Decoder(_tiny.shape())
    _tiny.train(base, Muon(lr=0.02), steps=60, rows=4, ids=code)
    rows = [("trained on code", *measure(base))]
    mixed = torch.cat(
        [
            part
            for i in range(16)
            for part in (table[i * 1000 : (i + 1) * 1000], code[i * 1000 : (i + 1) * 1000])
        ]
    )
    for name, ids in (("then on the table", table), ("then on both, half and half", mixed)):
        model = Decoder(_tiny.shape())
        model.load_state_dict(base.state_dict())
        _tiny.train(model, Muon(lr=0.01), steps=30, rows=4, ids=ids)
        rows.append((name, *measure(model)))
    fresh = Decoder(_tiny.shape())
    _tiny.train(fresh, Muon(lr=0.02), steps=30, rows=4, ids=table)
    rows.append(("from scratch on the table", *measure(fresh)))
    return Exhibit(
        title="Held-out loss, nats a byte: 60 steps on code, then 30 on the domain",
        columns=("model", "on code", "on the table"),
        rows=rows,
        reads="Going on lowers the loss on the domain below what as many steps from scratch give, and raises it on what came before. A share of the old text "
        "keeps most of that, at a little cost to the new.",
    )


def utilisation_measured() -> Exhibit:
    """Training steps of three widths: model FLOPs a second against this machine's measured matmul peak."""
    peak, rows = matmul_peak(seconds=0.2), []
    for width, layers in ((32, 2), (128, 2), (256, 2)):
        model = Decoder(_tiny.shape(d_model=width, n_layers=layers, feed_forward=Mlp(d_ff=3 * width)))
        used, tokens = Utilisation(model.cfg, peak), 4 * 64
        flops = used.flops([64] * 4, tokens)
        best = min(_seconds(model, *_tiny.draw(step, 4)) for step in range(4))
        rows.append(
            (width, model.num_parameters(), f"{flops:.2e}", 1e3 * best, tokens / best, used.of(flops, best))
        )
    return Exhibit(
        title=f"Peak: {peak / 1e9:.1f} GFLOP/s in square products",
        columns=("width", "weights", "model FLOPs a step", "ms", "tokens/s", "utilisation"),
        rows=rows,
        reads="Small matrices leave the arithmetic units waiting, so utilisation rises with width. Only what the model needs is counted: work done "
        "twice, or waiting, counts against it.",
    )
