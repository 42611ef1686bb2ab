"""Exhibits of learning: fitting too much and too little, counting weights and memory, the parts of a step."""

from __future__ import annotations

import torch

from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import MLP, Mlp
from orrery.model.probe import record
from orrery.train.basic_losses import mse
from orrery.train.early_stop import EarlyStop, EarlyStopper
from orrery.train.init import initialize
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from orrery.train.optim.sgd import SGD


def _fit(
    model: Decoder, *, train_bytes: int, steps: int = 120, every: int = 15
) -> list[tuple[int, float, float]]:
    """(step, loss on the training text, loss on the held-out end of the file), in eval mode."""
    ids = _tiny.text_ids()
    seen, unseen = ids[2000 : 2000 + train_bytes], ids[-1600:]
    optimizer = build_optimizer(model, AdamW(lr=5e-3, weight_decay=0.0))

    @torch.no_grad()
    def measure(part: torch.Tensor) -> float:
        model.eval()
        value = _tiny.loss(model, *_tiny.draw(0, 16, ids=part, seed=9)).mean().item()
        model.train()
        return value

    out = []
    for step in range(steps + 1):
        if step % every == 0:
            out.append((step, measure(seen), measure(unseen)))
        optimizer.zero_grad()
        _tiny.loss(model, *_tiny.draw(step, 4, ids=seen)).mean().backward()
        optimizer.step()
    return out


def overfitting_curve() -> Exhibit:
    """A decoder trained on 600 bytes: its loss there falls for ever, the loss on other text of the same file turns up."""
    runs = {
        "600 bytes": _fit(Decoder(_tiny.shape()), train_bytes=600),
        "600 bytes, dropout 0.3": _fit(Decoder(_tiny.shape(dropout=0.3)), train_bytes=600),
        "15,000 bytes": _fit(Decoder(_tiny.shape()), train_bytes=15_000),
    }
    series = []
    for name in ("600 bytes", "15,000 bytes"):
        steps = [p[0] for p in runs[name]]
        series.append(Series(name=f"{name}: training", x=steps, y=[p[1] for p in runs[name]]))
        series.append(Series(name=f"{name}: held out", x=steps, y=[p[2] for p in runs[name]]))
    return Exhibit(
        title="Nats a byte on the training text and on the held-out end of the file",
        columns=(
            "training text",
            "training, end",
            "held out, best",
            "at step",
            "held out, end",
            "gap at the end",
        ),
        rows=[
            (
                name,
                p[-1][1],
                min(v[2] for v in p),
                min(p, key=lambda v: v[2])[0],
                p[-1][2],
                p[-1][2] - p[-1][1],
            )
            for name, p in runs.items()
        ],
        series=series,
        x="step",
        y="nats a byte",
        reads="With little text the held-out loss soon rises while the training loss goes on falling: the model learns the text by "
        "heart. Dropout slows that down; more text cures it.",
    )


def early_stopping_by_hand() -> Exhibit:
    """The shipped stopper on a validation curve that falls, rises, and would fall again."""
    values = [3.0, 2.5, 2.2, 2.3, 2.25, 2.4, 2.1, 2.0]
    rows: list[tuple[int, float, float, int, bool]] = []
    stopper = EarlyStopper(EarlyStop(patience=3))
    for i, value in enumerate(values):
        stop = stopper.update(value)
        rows.append((i, value, stopper.best, stopper.since_best, stop))
        if stop:
            break
    return Exhibit(
        title="Patience 3",
        columns=("evaluation", "validation loss", "best", "since then", "stop"),
        rows=rows,
        reads="Training ends after three evaluations without a new best, and the best checkpoint is kept. Here it stops one evaluation before "
        "the curve would have fallen again: patience is a guess.",
    )


def capacity_sweep() -> Exhibit:
    """Decoders of three widths on the same text and on random bytes: what each can fit in 100 steps."""
    rows = []
    random = torch.randint(256, (200,), generator=torch_generator(0, "noise"))
    for width in (4, 8, 32):
        losses = []
        for ids in (_tiny.text_ids()[2000:2200], random):
            model = Decoder(
                _tiny.shape(d_model=width, n_heads=1, n_layers=1, feed_forward=Mlp(d_ff=3 * width))
            )
            optimizer = build_optimizer(model, AdamW(lr=1e-2, weight_decay=0.0))
            tokens, targets = ids[:192], ids[1:193]
            value = 0.0
            for _ in range(100):
                optimizer.zero_grad()
                mean = _tiny.loss(model, tokens, targets).mean()
                mean.backward()
                optimizer.step()
                value = mean.item()
            losses.append(value)
        rows.append((width, model.num_parameters(), *losses))
    return Exhibit(
        title="Training loss after 100 steps on 192 bytes of code, and on 192 random bytes",
        columns=("width", "weights", "code, nats a byte", "random bytes"),
        rows=rows,
        reads="A narrow model underfits even the text it is shown again and again. A wide one memorises pure noise, which holds no rule at "
        "all: a low training loss alone proves nothing.",
    )


def dead_units() -> Exhibit:
    """Hidden units that no input switches on any more, by learning rate, with ReLU and with SiLU."""
    x = torch.randn(256, 8, generator=torch_generator(0, "x"))
    y = x[:, 0] * x[:, 1] + x[:, 2].abs()
    rows = []
    for lr in (0.01, 0.03, 0.1):
        row: list[float] = [lr]
        for activation in ("relu", "silu"):
            mlp = MLP(8, Mlp(d_ff=64, activation=activation, gated=False, bias=True))  # type: ignore[arg-type]
            initialize(mlp, "he")
            optimizer, loss = SGD(mlp.parameters(), lr=lr), mse(torch.zeros(1), torch.zeros(1)).sum
            for _ in range(300):
                optimizer.zero_grad()
                loss = mse(mlp(x)[:, 0], y).mean()
                loss.backward()
                optimizer.step()
            row += [loss.item(), (mlp.up_proj(x) <= 0).all(0).float().mean().item()]
        rows.append(tuple(row))
    return Exhibit(
        title="A network of 64 hidden units after 300 steps of SGD on 256 examples",
        columns=("learning rate", "ReLU: loss", "units never on", "SiLU: loss", "units never on"),
        rows=rows,
        reads="One large step can push a unit's bias so low that no input reaches it. With ReLU its gradient is then zero and it never comes "
        "back; SiLU's slope below zero is small and not zero.",
    )


def sparse_activations() -> Exhibit:
    """Share of exact zeros after each activation in a trained decoder, and what sparse storage of such a tensor takes."""
    rows = []
    tokens, targets = _tiny.draw(0, 8, seed=3)
    for activation in ("relu", "relu2", "gelu", "silu"):
        model = Decoder(_tiny.shape(feed_forward=Mlp(d_ff=128, activation=activation, gated=False)))
        _tiny.train(model, steps=40, rows=4)
        with torch.no_grad(), record(model, ["blocks.1.mlp.down_proj:input"]) as seen:
            _tiny.loss(model, tokens, targets)
        h = seen["blocks.1.mlp.down_proj:input"][0]
        zero = (h == 0).float().mean().item()
        dense, sparse = h.numel() * 4, int(h.count_nonzero()) * (4 + 4)
        rows.append((activation, zero, (h.abs() < 0.01 * h.abs().max()).float().mean().item(), dense, sparse))
    return Exhibit(
        title="Hidden activations of the second feed-forward layer over 512 tokens",
        columns=(
            "activation",
            "exact zeros",
            "below 1% of the largest",
            "bytes dense",
            "bytes sparse (value and index)",
        ),
        rows=rows,
        reads="ReLU gives exact zeros, which can be skipped; GELU and SiLU only small numbers. Storing indices costs as much as the values, so "
        "sparse storage pays from half zeros on.",
    )


def depth_sweep() -> Exhibit:
    """Decoders of one, two and four layers on the same text for the same steps: loss and weights."""
    rows = []
    for layers in (1, 2, 4):
        model = Decoder(_tiny.shape(n_layers=layers, d_model=32, feed_forward=Mlp(d_ff=88)))
        losses = _tiny.train(model, AdamW(lr=5e-3), steps=60, rows=4)
        rows.append((layers, model.num_parameters(), losses[0], sum(losses[-10:]) / 10))
    return Exhibit(
        title="60 steps of 256 bytes, 32 wide",
        columns=("layers", "weights", "first loss", "mean of the last 10"),
        rows=rows,
        reads="All depths train at once with the same settings, thanks to residuals and norms. In so short a run further layers hardly pay; "
        "what they add shows with more steps and more text.",
    )


def l1_and_l2() -> Exhibit:
    """Ten weights of which three matter, fitted with an L1 and with an L2 penalty."""
    truth = torch.tensor([2.0, -1.0, 0.5] + [0.0] * 7)
    x = torch.randn(100, 10, generator=torch_generator(0, "norms"))
    y = x @ truth + 0.5 * torch.randn(100, generator=torch_generator(1, "norms"))
    rows = []
    for name in ("none", "L2", "L1"):
        w = torch.nn.Parameter(torch.zeros(10))
        optimizer = SGD([w], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            loss = mse(x @ w, y).mean() + (0.2 * w.square().sum() if name == "L2" else 0.0)
            loss.backward()
            optimizer.step()
            if name == "L1":  # the proximal step of lr * 0.4 * |w|
                with torch.no_grad():
                    w.copy_(w.sign() * (w.abs() - 0.05 * 0.4).clamp(min=0))
        v = w.detach()
        rows.append(
            (
                name,
                int((v == 0).sum()),
                v.norm(1).item(),
                v.norm(2).item(),
                *(f"{c:+.3f}" for c in v[:5].tolist()),
            )
        )
    return Exhibit(
        title="Least squares on 100 noisy examples; the true weights are 2, -1, 0.5 and seven zeros",
        columns=("penalty", "exact zeros", "L1 norm", "L2 norm", "w0", "w1", "w2", "w3", "w4"),
        rows=rows,
        reads="L2 shrinks every weight by a share and makes none zero. L1 takes the same amount off each, so the small ones, which only fitted "
        "noise, end at exactly zero.",
    )
