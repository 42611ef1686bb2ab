"""Exhibits of models of two stacks: one reads a source, the other writes while it looks at what the first made."""

from __future__ import annotations

import dataclasses
import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.glossary.exhibit import Exhibit, Grid, Series
from orrery.glossary.exhibits import _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.cache import Cached, KVCache
from orrery.model.config import DecoderConfig, Init
from orrery.model.cross_attention import CrossAttention
from orrery.model.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from orrery.model.explicit import Explicit
from orrery.model.memory import Memory
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.model.positions import Sinusoidal
from orrery.model.probe import record
from orrery.plan.parameters import count_parameters
from orrery.train.init import initialize
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Cosine, InverseSqrt, lr_at

START, END, LETTERS = 0, 1, 8
STEPS = 240


def _shape() -> EncoderDecoderConfig:
    """Two layers a side, 48 wide, over `LETTERS` letters, a start and an end."""
    stack = DecoderConfig(
        vocab_size=2 + LETTERS, d_model=48, n_layers=2, n_heads=4, feed_forward=Mlp(d_ff=96), norm="layernorm", max_positions=32,
        position=Sinusoidal(), init=Init(std=48**-0.5), embedding_scale=48**0.5,
    )  # fmt: skip
    return EncoderDecoderConfig(
        encoder=stack, decoder=dataclasses.replace(stack, cross_attention=True), start_id=START
    )


def _sources(step: int, count: int, low: int = 3, high: int = 5) -> list[Tensor]:
    """`count` strings of one length from `low` to `high` letters, by step; of one length, so that they run together."""
    generator = torch_generator(0, "reversal", step)
    length = int(torch.randint(low, high + 1, (), generator=generator))
    return list(torch.randint(2, 2 + LETTERS, (count, length), generator=generator))


def _lengths(parts: list[Tensor]) -> list[int]:
    return [len(part) for part in parts]


def _read(model: EncoderDecoder, sources: list[Tensor]) -> Memory:
    return model.encode(torch.cat(sources), Packed(_lengths(sources), causal=False))


@functools.cache
def _trained() -> tuple[EncoderDecoder, tuple[float, ...]]:
    """A model that has learned to write strings backwards, and its losses."""
    model = EncoderDecoder(_shape())
    optimizer, losses = build_optimizer(model, AdamW(lr=4e-3)), []
    for step in range(STEPS):
        sources = _sources(step, 16)
        given = [torch.cat((torch.tensor([START]), s.flip(0))) for s in sources]
        wanted = torch.cat([torch.cat((s.flip(0), torch.tensor([END]))) for s in sources])
        optimizer.set_lr(lr_at(Cosine(warmup=0.1), step, STEPS))
        optimizer.zero_grad()
        hidden = model(torch.cat(given), Packed(_lengths(given), memory=_read(model, sources)))
        loss = F.cross_entropy(model.head(hidden), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), tuple(losses)


@torch.no_grad()
def _write(model: EncoderDecoder, sources: list[Tensor], longest: int) -> list[list[int]]:
    """Greedy: every source read once, all rows written together from the cache."""
    memory = _read(model, sources)
    cache, rows = KVCache(model, rows=len(sources), capacity=longest), range(len(sources))
    last, out = torch.full((len(sources),), START), []
    for i in range(longest):
        ctx = Cached(cache, [(row, i, 1) for row in rows], memory=memory)
        last = model.head(model(last, ctx)).argmax(-1)
        out.append(last)
    texts = torch.stack(out, 1).tolist()
    return [text[: text.index(END)] if END in text else text for text in texts]


def reversal_by_two_stacks() -> Exhibit:
    """A transformer of two stacks learns to write strings of 3 to 5 letters backwards; outputs are as long as their inputs."""
    model, losses = _trained()
    rows = []
    for length in (3, 4, 5, 7):
        sources = _sources(10_000 + length, 100, length, length)
        written = _write(model, sources, length + 2)
        right = sum(text == s.flip(0).tolist() for text, s in zip(written, sources, strict=True))
        rows.append((length if length < 7 else f"{length}, longer than any in training", right))
    return Exhibit(
        title=f"{count_parameters(_shape()).total:,} weights, {STEPS} steps of 16 strings",
        columns=("letters of the source", "of 100 new strings, wholly right"),
        rows=rows,
        series=[Series(name="loss a token", x=list(range(STEPS)), y=_tiny.smooth(list(losses)))],
        x="step", y="nats",
        reads="The source is read once, in both directions; the target is written token by token until the model itself writes its end, so "
        "lengths of inputs and outputs are free. Lengths it never saw are another matter.",
    )  # fmt: skip


def cross_attention_of_reversal() -> Exhibit:
    """Where the writer of the trained reversal looks in its source, one row for each token it writes."""
    model, _ = _trained()
    source = _sources(77, 1, 5, 5)
    given = torch.cat((torch.tensor([START]), source[0].flip(0)))
    letters = ["abcdefgh"[i - 2] for i in source[0].tolist()]
    with torch.no_grad(), record(model, [f"decoder.blocks.{i}.cross.pattern" for i in range(2)]) as seen:
        model(given, Explicit([len(given)], memory=_read(model, source)))
    patterns = [pattern for (pattern,) in seen.values()]
    mean = [pattern.reshape(-1, *pattern.shape[-2:]).mean(0) for pattern in patterns]
    best = max(mean, key=lambda grid: grid[torch.arange(5), torch.arange(4, -1, -1)].mean().item())
    diagonal = best[torch.arange(5), torch.arange(4, -1, -1)].mean().item()
    return Exhibit(
        title=f"The source is {' '.join(letters)}; mean over heads of one layer",
        columns=("what", "value"),
        rows=[
            ("mean weight on the letter to be written", diagonal),
            ("if all letters were looked at alike", 1 / 5),
        ],
        grids=[Grid(title="rows: to be written; columns: the source", values=best.tolist(), rows=[*reversed(letters), "end"], columns=letters)],
        reads="Queries come from what is being written, keys and values from the source, so the matrix has a row for each token written and a "
        "column for each token read. Nobody told the model where to look; it runs against the text's direction by itself.",
    )  # fmt: skip


def source_read_once() -> Exhibit:
    """Generating 20 tokens from a source of 50: how often keys and values of the source are made, with a memory kept and without."""
    model = EncoderDecoder(_shape()).eval()
    initialize(model.encoder, "xavier"), initialize(model.decoder, "xavier")
    source, calls = _sources(5, 1, 25, 25), {"encoder": 0, "keys": 0}

    def counter(name: str) -> object:
        def count(*_: object) -> None:
            calls[name] += 1

        return count

    model.encoder.register_forward_hook(counter("encoder"))  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, CrossAttention):
            module.k_proj.register_forward_hook(counter("keys"))  # type: ignore[arg-type]
    rows, results = [], []
    with torch.no_grad():
        for name in ("memory kept", "encoder anew for each token"):
            calls.update(encoder=0, keys=0)
            memory, logits = _read(model, source), []
            cache, last = KVCache(model, rows=1, capacity=20), torch.tensor([START])
            for i in range(20):
                if i and name != "memory kept":
                    memory = _read(model, source)
                logits.append(model.head(model(last, Cached(cache, [(0, i, 1)], memory=memory))))
                last = logits[-1].argmax(-1)
            results.append(torch.cat(logits))
            rows.append(
                (name, calls["encoder"], calls["keys"], (results[-1] - results[0]).abs().max().item())
            )
    return Exhibit(
        title="A decoder of two layers with cross-attention writes 20 tokens",
        columns=("way", "passes of the encoder", "projections to keys", "largest difference of a logit"),
        rows=rows,
        reads="The source does not change while the answer is written, so each layer's keys and values of it are made once. That cache has the "
        "length of the source from the start and does not grow.",
    )


def original_transformer() -> Exhibit:
    """The base and big models of 2017 as configurations: weights against the paper, and its schedule of the learning rate."""
    rows = []
    for name, d, heads, d_ff, published in (
        ("base", 512, 8, 2048, "65M"),
        ("big", 1024, 16, 4096, "213M"),
    ):
        cfg = _vaswani(d, heads, d_ff)
        sizes = count_parameters(cfg)
        with torch.device("meta"):
            built = EncoderDecoder(cfg).num_parameters()
        rows.append(
            (name, sizes.total, built, published, sizes.embedding, sizes.attention, sizes.feed_forward)
        )
    steps = [1, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 100_000]
    peak = (512 * 4000) ** -0.5
    ours = [peak * lr_at(InverseSqrt(warmup=4000), step - 1, 100_000) for step in steps]
    paper = [512**-0.5 * min(step**-0.5, step * 4000**-1.5) for step in steps]
    worst = max(abs(a - b) / b for a, b in zip(ours, paper, strict=True))
    return Exhibit(
        title="6 + 6 layers, norms after the sum, sinusoids, ReLU, one table of 37,000 tokens used three times",
        columns=("model", "weights", "built", "paper", "embeddings", "attention", "feed-forward"),
        rows=rows,
        series=[Series(name="base, 4000 steps of warmup", x=steps, y=ours)],
        x="step", y="learning rate", log_x=True, log_y=True,
        reads=f"The sizes are within four per cent of the rounded ones printed. The rate d^-0.5 min(s^-0.5, s w^-1.5) is `InverseSqrt(warmup=4000)` with a peak of {peak:.2e}; the "
        f"largest difference at the steps drawn is {worst:.1%}.",
    )  # fmt: skip


def _vaswani(d: int, heads: int, d_ff: int) -> EncoderDecoderConfig:
    stack = DecoderConfig(
        vocab_size=37_000, d_model=d, n_layers=6, n_heads=heads, feed_forward=Mlp(d_ff=d_ff, gated=False, activation="relu", bias=True),
        norm="layernorm", placement="post", position=Sinusoidal(), embedding_scale=d**0.5, dropout=0.1,
    )  # fmt: skip
    return EncoderDecoderConfig(
        encoder=stack, decoder=dataclasses.replace(stack, cross_attention=True), start_id=START
    )
