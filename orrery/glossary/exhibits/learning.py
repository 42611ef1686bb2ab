"""Exhibits of learning: fitting too much and too little, counting weights and memory, the parts of a step."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from orrery.data.batch import batch_of
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.describe import parameters_by_component
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.probe import record
from orrery.plan.flops import count_flops
from orrery.plan.memory import layer_activations
from orrery.plan.parameters import count_parameters
from orrery.train.early_stop import EarlyStop, EarlyStopper
from orrery.train.loss import cross_entropy
from orrery.train.monitor import matmul_peak
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW


def _fit(model: Decoder, *, train_bytes: int, steps: int = 120, every: int = 15) -> list[tuple[int, float, float]]:
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
        columns=("training text", "training, end", "held out, best", "at step", "held out, end", "gap at the end"),
        rows=[
            (name, p[-1][1], min(v[2] for v in p), min(p, key=lambda v: v[2])[0], p[-1][2], p[-1][2] - p[-1][1])
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
            model = Decoder(_tiny.shape(d_model=width, n_heads=1, n_layers=1, feed_forward=Mlp(d_ff=3 * width)))
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


def parameters_by_part() -> Exhibit:
    """Weights of three shapes of decoder by part: counted on the model and by formula."""
    shapes = {
        "2 layers, 48 wide": _tiny.shape(),
        "the same, head untied": _tiny.shape(tied=False),
        "6 layers, 384 wide, 8192 tokens": _tiny.shape(vocab_size=8192, d_model=384, n_layers=6, n_heads=6, feed_forward=Mlp(d_ff=1024)),
    }
    rows = []
    for name, cfg in shapes.items():
        counted = parameters_by_component(Decoder(cfg))
        formula = count_parameters(cfg)
        total = sum(counted.values())
        rows.append((name, *(counted.get(part, 0) for part in ("embedding", "attention", "feed_forward", "norm", "head")), total, formula.total == total))
    return Exhibit(
        title="Where the weights are",
        columns=("model", "embedding", "attention", "feed-forward", "norms", "head", "total", "formula agrees"),
        rows=rows,
        reads="In small models the table of tokens is a large part; with depth and width the feed-forward layers hold two thirds of the rest. "
        "A tied head has no weights of its own.",
    )


def activation_bytes() -> Exhibit:
    """Bytes that backward keeps for one layer: tensors autograd really saved, and the planner's formula."""
    rows = []
    for tokens in (64, 256):
        for d_ff in (128, 256):
            cfg = _tiny.shape(n_layers=1, feed_forward=Mlp(d_ff=d_ff), max_positions=tokens)
            block = Decoder(cfg).blocks[0]
            x = torch.randn(tokens, cfg.d_model, generator=torch_generator(0, "activations"), requires_grad=True)
            weights = {p.data_ptr() for p in block.parameters()}
            kept: dict[int, int] = {}

            def keep(tensor: torch.Tensor, weights: set[int] = weights, kept: dict[int, int] = kept) -> torch.Tensor:
                if tensor.data_ptr() not in weights and tensor.numel():
                    kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            ctx = Packed([tokens])
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                out = block(x, ctx)
            formula = 4 * tokens * layer_activations(cfg, 0, tokens)
            rows.append((tokens, d_ff, sum(kept.values()), int(formula), sum(kept.values()) / formula))
            del out
    return Exhibit(
        title="What one layer, 48 wide, keeps for the backward pass",
        columns=("tokens", "inner width", "bytes saved by autograd", "formula", "ratio"),
        rows=rows,
        reads="Activations grow with tokens times width and not with the weights, so a long batch can need more memory than the model. The formula "
        "leaves out small things such as rotary tables.",
    )


def dead_units() -> Exhibit:
    """Share of ReLU units that no input switches on any more, after training at four learning rates."""
    rows = []
    tokens, targets = _tiny.draw(0, 16, seed=3)
    for lr in (1e-3, 1e-2, 3e-2, 1e-1):
        model = Decoder(_tiny.shape(feed_forward=Mlp(d_ff=128, activation="relu", gated=False, bias=True)))
        losses = _tiny.train(model, AdamW(lr=lr), steps=40)
        names = [f"blocks.{i}.mlp.up_proj" for i in range(2)]
        with torch.no_grad(), record(model, names) as seen:
            _tiny.loss(model, tokens, targets)
        share = [(F.relu(seen[name][0]) > 0).any(0).logical_not().float().mean().item() for name in names]
        zeros = [(F.relu(seen[name][0]) == 0).float().mean().item() for name in names]
        rows.append((lr, losses[-1], *share, sum(zeros) / 2))
    return Exhibit(
        title="ReLU feed-forward layers after 40 steps of AdamW: units silent on all of 1024 tokens",
        columns=("learning rate", "loss", "dead in layer 0", "dead in layer 1", "zero activations"),
        rows=rows,
        reads="A large step can push a unit's bias so low that no input reaches it; its gradient is then zero for ever. Below that rate units are "
        "off half the time, which is sparsity, and not death.",
    )


def parts_of_a_step() -> Exhibit:
    """One training step of a small decoder taken apart: time of each part here and now."""
    model = Decoder(_tiny.shape(d_model=96, n_layers=3, feed_forward=Mlp(d_ff=256)))
    optimizer = build_optimizer(model, AdamW(lr=1e-3))
    spent = dict.fromkeys(("draw the batch", "forward", "loss and head", "backward", "update"), 0.0)
    steps = 6
    for step in range(steps + 2):
        marks = [time.perf_counter()]
        optimizer.zero_grad()
        tokens, targets = _tiny.draw(step, 8)
        marks.append(time.perf_counter())
        hidden = model(tokens, Packed([64] * 8))
        marks.append(time.perf_counter())
        loss = cross_entropy(hidden, model.head, targets, torch.ones(len(targets))).mean()
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        optimizer.step()
        marks.append(time.perf_counter())
        if step >= 2:  # the first steps allocate
            for name, a, b in zip(spent, marks, marks[1:], strict=False):
                spent[name] += (b - a) / steps
    total = sum(spent.values())
    flops = count_flops(model.cfg, 64).training("causal") * 512
    return Exhibit(
        title=f"512 tokens, {model.num_parameters():,} weights: {1e3 * total:.1f} ms, {512 / total:,.0f} tokens/s, {flops / total / 1e9:.1f} GFLOP/s",
        columns=("part", "ms", "share"),
        rows=[(name, 1e3 * seconds, seconds / total) for name, seconds in spent.items()],
        reads="Backward costs about twice the forward pass, and the rest should be small. Times are of this machine at this moment.",
    )


def matmul_speed() -> Exhibit:
    """Achieved arithmetic of square matrix products by size, against the naive definition."""
    rows = []
    for n in (16, 64, 256, 768):
        a, b = torch.randn(n, n), torch.randn(n, n)
        repeats = max(1, int(2e8 / (2 * n**3)))
        a @ b
        begun = time.perf_counter()
        for _ in range(repeats):
            c = a @ b
        seconds = (time.perf_counter() - begun) / repeats
        rows.append((n, 2 * n**3, 1e6 * seconds, 2 * n**3 / seconds / 1e9, (c - (a.double() @ b.double())).abs().max().item()))
    a, b = torch.randn(16, 16), torch.randn(16, 16)
    loops = torch.tensor([[sum(float(a[i, k]) * float(b[k, j]) for k in range(16)) for j in range(16)] for i in range(16)])
    return Exhibit(
        title=f"n x n products on this machine (the training loop's own peak measure: {matmul_peak(seconds=0.2) / 1e9:.1f} GFLOP/s)",
        columns=("n", "FLOPs", "microseconds", "GFLOP/s", "rounding error"),
        rows=rows,
        reads=f"An n x n product takes 2 n^3 operations on 3 n^2 numbers, so large ones keep the arithmetic units busy and small ones wait. Three nested "
        f"loops give the same 16 x 16 product to {(loops - a @ b).abs().max().item():.0e}.",
    )


def documents_to_batch() -> Exhibit:
    """Three short documents as the batch a training step sees: tokens, targets, lengths."""
    documents = [[5, 6, 7, 8], [9, 10], [11, 12, 13]]
    batch = batch_of(documents)
    rows = []
    at = 0
    for length in batch.lengths:
        part = slice(at, at + length)
        rows.append((str(batch.tokens[part].tolist()), str(batch.targets[part].tolist()), str(batch.weights[part].tolist()), length))
        at += length
    return Exhibit(
        title=f"Documents {documents} laid end to end: {len(batch)} positions, no padding",
        columns=("tokens", "targets", "weights", "length"),
        rows=rows,
        reads="Position i reads token i and predicts the next one of its own document. There is nothing after a document's last token to predict, so "
        "a document of n tokens gives n - 1 examples at once.",
    )
