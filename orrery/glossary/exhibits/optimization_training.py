"""Exhibits that train the shipped decoder for a second or two: rates, warmup, batches, clipping, the landscape."""

from __future__ import annotations

import torch
from torch import nn

from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.clip import clip_grad_norm, global_norm
from orrery.train.optim.config import SGD, AdamW, Muon
from orrery.train.optim.qk_clip import WatchLogits, qk_clip
from orrery.train.schedule import Constant


def learning_rate_sweep() -> Exhibit:
    """A tiny decoder trained at five learning rates: too small, good, and too large."""
    steps = 50
    runs = {
        f"{lr:g}": _tiny.train(Decoder(_tiny.shape()), AdamW(lr=lr), steps=steps, rows=4)
        for lr in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    }
    return Exhibit(
        title="50 steps of AdamW on bytes of Python's library (a uniform guess costs ln 256 = 5.55 nats)",
        columns=("learning rate", "loss at step 10", "mean of the last 10"),
        rows=[(name, losses[10], sum(losses[-10:]) / 10) for name, losses in runs.items()],
        series=[
            Series(name=name, x=list(range(steps)), y=_tiny.smooth(losses)) for name, losses in runs.items()
        ],
        x="step",
        y="nats a byte",
        log_y=True,
        reads="Too small a rate wastes the run, too large a one leaves the loss worse than it found it, and in between lies about "
        "a factor of ten that works. Among stable rates the larger learns faster.",
    )


def warmup_or_not() -> Exhibit:
    """The first steps of a decoder at a high rate, with and without warmup: the loss jumps before it falls."""
    steps, rows, series = 30, [], []
    for warmup in (0, 10, 30):
        runs = [
            _tiny.train(
                Decoder(_tiny.shape(), seed=seed),
                AdamW(lr=0.1),
                steps=steps,
                schedule=Constant(warmup=warmup),
                rows=4,
            )
            for seed in range(3)
        ]
        mean = [sum(values) / len(values) for values in zip(*runs, strict=True)]
        rows.append((warmup, runs[0][0], max(max(run) for run in runs), max(mean), mean[-1]))
        series.append(Series(name=f"warmup {warmup}", x=list(range(steps)), y=mean))
    return Exhibit(
        title="AdamW at 0.1 (thirty times a good rate), three seeds",
        columns=(
            "warmup steps",
            "loss at the start",
            "worst of any seed",
            "worst of the mean",
            "mean at step 30",
        ),
        rows=rows,
        series=series,
        x="step",
        y="nats a byte",
        reads="Adam's first steps are of full size in every weight, in a direction taken from one batch: without warmup they throw the "
        "loss above where it began. Ramping the rate up lets the moments settle first. A small model recovers; a deep one may not.",
    )


def gradient_noise_by_batch() -> Exhibit:
    """Variance of the mini-batch gradient of a decoder for growing batches: it falls as 1 / B."""
    model = Decoder(_tiny.shape())
    _tiny.train(model, steps=20)

    def gradient(step: int, rows: int) -> torch.Tensor:
        model.zero_grad()
        _tiny.loss(model, *_tiny.draw(step, rows, seed=1)).mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    rows, first = [], 0.0
    for size in (1, 4, 16):
        sample = torch.stack([gradient(step, size) for step in range(32)])
        variance = sample.var(0).sum().item()
        first = first or variance
        rows.append((size, sample.mean(0).norm().item(), variance, variance / first, 1 / size))
    return Exhibit(
        title="Total variance of the gradient over 32 random batches of B pieces of 64 bytes",
        columns=("B", "norm of the mean gradient", "variance", "relative", "1 / B"),
        rows=rows,
        reads="The mean gradient stays what it is and its variance falls in proportion to the batch, so the noise falls only as the "
        "root: four times the work halves the noise.",
    )


def gradient_accumulation_equals_one_batch() -> Exhibit:
    """One batch of 8 pieces and the same in 4 parts: gradients and the step after them."""
    tokens, targets = _tiny.draw(0, 8)
    gradients, weights = [], []
    for parts in (1, 2, 4, 8):
        model = Decoder(_tiny.shape())
        optimizer = build_optimizer(model, AdamW(lr=1e-3))
        losses = [
            _tiny.loss(model, t, y) for t, y in zip(tokens.chunk(parts), targets.chunk(parts), strict=True)
        ]
        total = torch.stack([part.weight for part in losses]).sum()
        for part in losses:
            (part.sum / total).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    return Exhibit(
        title="The same 512 tokens in 1, 2, 4 and 8 micro-batches",
        columns=(
            "micro-batches",
            "largest difference of a gradient",
            "relative to the largest",
            "of a weight after the step",
        ),
        rows=[
            (
                n,
                (g - gradients[0]).abs().max().item(),
                ((g - gradients[0]).abs().max() / gradients[0].abs().max()).item(),
                (w - weights[0]).abs().max().item(),
            )
            for n, g, w in zip((1, 2, 4, 8), gradients, weights, strict=True)
        ],
        reads="Sums add up, means do not: each part's loss is divided once, by the weight of the whole batch. What is left is the order "
        "of floating-point additions.",
    )


def clipping_an_explosion() -> Exhibit:
    """A linear recurrence h <- W h back through 30 steps: gradients explode with W's size; clipping bounds the step."""
    rows = []
    for scale in (0.8, 1.0, 1.2, 1.5):
        weight = nn.Parameter(
            scale * torch.linalg.qr(torch.randn(16, 16, generator=torch_generator(0, "explosion")))[0]
        )
        before = _unrolled_gradient(weight, 30)
        clip_grad_norm([weight], 1.0)
        rows.append((scale, before, global_norm([weight])))
    return Exhibit(
        title="Gradient norm of a recurrence unrolled over 30 steps, before and after clipping at 1",
        columns=("singular values of W", "gradient norm", "after clipping"),
        rows=rows,
        reads="The gradient carries a product of 30 copies of W: it shrinks or grows like the 30th power. Clipping keeps its direction "
        "and bounds its length; it cannot bring back a gradient that vanished.",
    )


def _unrolled_gradient(weight: nn.Parameter, steps: int) -> float:
    h = torch.ones(16) / 4
    for _ in range(steps):
        h = weight @ h
    h.sum().backward()
    return global_norm([weight])


def loss_landscape_slice() -> Exhibit:
    """The loss on a plane through a trained decoder: from where it started to where it ended, and across."""
    start = Decoder(_tiny.shape())
    end = Decoder(_tiny.shape())
    _tiny.train(end, steps=80)
    probe = Decoder(_tiny.shape())
    batch = _tiny.draw(0, 8, seed=2)
    a, b = ([p.detach() for p in m.parameters()] for m in (start, end))
    across = []
    for i, (p, q) in enumerate(
        zip(a, b, strict=True)
    ):  # a random direction, scaled to the path tensor by tensor
        random = torch.randn(p.shape, generator=torch_generator(0, "landscape", i))
        across.append(random * (q - p).norm() / random.norm())

    @torch.no_grad()
    def at(x: float, y: float) -> float:
        for w, p, q, r in zip(probe.parameters(), a, b, across, strict=True):
            w.copy_(p + x * (q - p) + y * r)
        return _tiny.loss(probe, *batch).mean().item()

    line = [i / 10 for i in range(-2, 17)]
    path = [at(x, 0.0) for x in line]
    ys, xs = [1.0, 0.5, 0.0, -0.5, -1.0], [i / 4 for i in range(-1, 8)]
    plane = [[at(x, y) for x in xs] for y in ys]
    low, high = min(map(min, plane)), max(map(max, plane))
    return Exhibit(
        title="Loss along the straight line from the initial weights (0) to the trained ones (1) and beyond",
        columns=("place", "loss"),
        rows=[
            *(
                (f"{x:g} on the line", v)
                for x, v in zip(line, path, strict=True)
                if x in (0.0, 0.4, 0.8, 1.0, 1.6)
            ),
            *((f"1 on the line, {y:+g} across", at(1.0, y)) for y in (-1.0, 1.0)),
        ],
        series=[Series(name="loss on the line", x=line, y=path)],
        x="0 = initial, 1 = trained",
        y="nats a byte",
        grids=[
            Grid(
                title=f"The plane: dark is high ({low:.2f} to {high:.2f}); across, a random direction of the same length",
                values=[[(v - low) / (high - low) for v in row] for row in plane],
                rows=[f"{y:+.1f}" for y in ys],
                columns=[f"{x:.2f}"[:3] for x in xs],
            )
        ],
        reads="The straight line from start to end goes downhill, though training did not walk along it, and past the end the loss rises "
        "again. A random direction of the same length matters far less: most directions of weight space are nearly flat.",
    )


def muonclip_bounds_logits() -> Exhibit:
    """The largest attention logit of a decoder trained with Muon at a high rate, with and without QK-clip."""
    tau, steps = 8.0, 40
    curves: dict[str, list[float]] = {}
    ends = []
    for name, clip in (("no clip", False), (f"clip at {tau:g}", True)):
        model = Decoder(_tiny.shape())
        optimizer = build_optimizer(model, Muon(lr=5e-2, weight_decay=0.0))
        largest, last, clipped = [], 0.0, 0
        for step in range(steps):
            optimizer.zero_grad()
            watches: list[WatchLogits] = []

            def wrap(ctx: object, kept: list[WatchLogits] = watches) -> WatchLogits:
                kept.append(WatchLogits(ctx))
                return kept[-1]

            mean = _tiny.loss(model, *_tiny.draw(step, 4), wrap=wrap).mean()
            mean.backward()
            optimizer.step()
            largest.append(max(logits.max().item() for logits in watches[0].largest.values()))
            clipped += qk_clip(watches[0].largest, tau=tau) if clip else 0
            last = mean.item()
        curves[name] = largest
        ends.append((name, max(largest), largest[-1], clipped, last))
    return Exhibit(
        title="Largest attention logit per step, Muon at a rate 25 times too high",
        columns=("run", "largest ever", "at the end", "heads clipped", "last loss"),
        rows=ends,
        series=[Series(name=name, x=list(range(steps)), y=values) for name, values in curves.items()],
        x="step",
        y="largest logit",
        reads="Logits are products of two weights, so a high rate makes them grow without end, while the softmax saturates. After every "
        "step QK-clip shrinks the query and key weights of each head that passed the limit, so logits stay about one step's growth "
        "above it, at no cost in loss.",
    )


def zero_initialisation() -> Exhibit:
    """Hidden units that start equal stay equal: feed-forward weights from zeros, from a constant, and from noise."""
    rows = []
    for name in ("zeros", "constant 0.02", "normal 0.02"):
        model = Decoder(_tiny.shape())
        with torch.no_grad():
            for label, p in model.named_parameters():
                if ".mlp." in label and name != "normal 0.02":
                    p.fill_(0.0 if name == "zeros" else 0.02)
        weight = model.get_parameter("blocks.0.mlp.up_proj.weight")
        before = weight.detach().clone()
        _tiny.train(model, SGD(lr=0.1, momentum=0.9), steps=20)
        distinct = len(torch.unique(weight.detach().round(decimals=5), dim=0))
        rows.append((name, (weight.detach() - before).norm().item(), distinct, len(weight)))
    return Exhibit(
        title="The 128 hidden units of a feed-forward layer after 20 steps, from three ways to start",
        columns=("feed-forward weights", "distance moved", "different units", "of"),
        rows=rows,
        reads="Units with equal weights get equal gradients, so they stay one unit for ever; from all zeros not even a gradient "
        "arrives and nothing moves. Noise breaks the symmetry.",
    )
