"""Exhibits that count and time: weights by part, activations kept, the parts of a step, matrix products."""

from __future__ import annotations

import time

import torch

from orrery.data.batch import batch_of
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.describe import parameters_by_component
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.plan.flops import count_flops
from orrery.plan.memory import layer_activations
from orrery.plan.parameters import count_parameters
from orrery.train.loss import cross_entropy
from orrery.train.monitor import matmul_peak
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW


def parameters_by_part() -> Exhibit:
    """Weights of three shapes of decoder by part: counted on the model and by formula."""
    shapes = {
        "2 layers, 48 wide": _tiny.shape(),
        "the same, head untied": _tiny.shape(tied=False),
        "6 layers, 384 wide, 8192 tokens": _tiny.shape(
            vocab_size=8192, d_model=384, n_layers=6, n_heads=6, feed_forward=Mlp(d_ff=1024)
        ),
    }
    rows = []
    for name, cfg in shapes.items():
        counted = parameters_by_component(Decoder(cfg))
        formula = count_parameters(cfg)
        total = sum(counted.values())
        rows.append(
            (
                name,
                *(
                    counted.get(part, 0)
                    for part in ("embedding", "attention", "feed_forward", "norm", "head")
                ),
                total,
                formula.stored == total,
            )
        )
    return Exhibit(
        title="Where the weights are",
        columns=(
            "model",
            "embedding",
            "attention",
            "feed-forward",
            "norms",
            "head",
            "total",
            "formula agrees",
        ),
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
            x = torch.randn(
                tokens, cfg.d_model, generator=torch_generator(0, "activations"), requires_grad=True
            )
            weights = {p.data_ptr() for p in block.parameters()}
            kept: dict[int, int] = {}

            def keep(
                tensor: torch.Tensor, weights: set[int] = weights, kept: dict[int, int] = kept
            ) -> torch.Tensor:
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
        c = a @ b
        begun = time.perf_counter()
        for _ in range(repeats):
            c = a @ b
        seconds = (time.perf_counter() - begun) / repeats
        rows.append(
            (
                n,
                2 * n**3,
                1e6 * seconds,
                2 * n**3 / seconds / 1e9,
                (c - (a.double() @ b.double())).abs().max().item(),
            )
        )
    a, b = torch.randn(16, 16), torch.randn(16, 16)
    loops = torch.tensor(
        [[sum(float(a[i, k]) * float(b[k, j]) for k in range(16)) for j in range(16)] for i in range(16)]
    )
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
        rows.append(
            (
                str(batch.tokens[part].tolist()),
                str(batch.targets[part].tolist()),
                str(batch.weights[part].tolist()),
                length,
            )
        )
        at += length
    return Exhibit(
        title=f"Documents {documents} laid end to end: {len(batch)} positions, no padding",
        columns=("tokens", "targets", "weights", "length"),
        rows=rows,
        reads="Position i reads token i and predicts the next one of its own document. There is nothing after a document's last token to predict, so "
        "a document of n tokens gives n - 1 examples at once.",
    )
