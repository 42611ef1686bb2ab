"""Exhibits on distillation: a student taught by distributions, by a teacher's texts, or by the data alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.data.batch import Batch, batch_of
from orrery.glossary.exhibit import Exhibit, Series
from orrery.glossary.exhibits import _library, _tiny
from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.text.config import TokenizerConfig
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import train_tokenizer
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import AdamW
from orrery.tune.distill.answers import answered
from orrery.tune.distill.config import ForwardKl, JensenShannon, Mode, ReverseKl, Sampled
from orrery.tune.distill.distil import Nearness, TaughtLoss, nearness
from orrery.tune.distill.divergence import divergence

LENGTH, ROWS, STEPS = 48, 8, 64
LITTLE = 1500
"""Tokens of text that a student has."""


@functools.cache
def _material() -> tuple[Tokenizer, Tensor, Tensor]:
    """Small tokens; the ids of some modules, and of another."""
    texts = [_library.module(name) for name in ("textwrap", "cmd", "heapq", "string")]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=300))
    ids, apart = (
        torch.tensor(tokenizer.encode(text)) for text in ("\n".join(texts), _library.module("bisect"))
    )
    return tokenizer, ids, apart


@functools.cache
def _teacher() -> Decoder:
    """Has read it all."""
    tokenizer, ids, _ = _material()
    model = Decoder(_tiny.shape(vocab_size=tokenizer.vocab_size, d_model=64, feed_forward=Mlp(d_ff=192)))
    _tiny.train(model, AdamW(lr=4e-3), steps=130, rows=10, ids=ids)
    return model.requires_grad_(False).eval()


def _student() -> Decoder:
    return Decoder(
        _tiny.shape(vocab_size=_material()[0].vocab_size, d_model=32, n_layers=1, feed_forward=Mlp(d_ff=96)),
        seed=1,
    )


def _drawn(ids: Tensor, step: int) -> Batch:
    starts = torch.randint(
        len(ids) - LENGTH - 1, (ROWS,), generator=torch_generator(0, "distilling", step)
    ).tolist()
    return batch_of([ids[start : start + LENGTH + 1].tolist() for start in starts])


def _by_the_teacher(batches: Sequence[Batch]) -> list[Batch]:
    """The teacher goes on from the first words of each text."""
    engine = Engine(LM(model=_teacher(), tokenizer=_material()[0]))
    read = torch.arange(LENGTH).repeat(ROWS) < 6
    return [
        answered(
            Batch(
                tokens=batch.tokens, targets=batch.targets, weights=batch.weights.masked_fill(read, 0.0), lengths=batch.lengths
            ),
            engine, Sampled(max_tokens=LENGTH), seed=n, context=LENGTH,
        )
        for n, batch in enumerate(batches)
    ]  # fmt: skip


@functools.cache
def _taught(mode: Mode, hard: float, sequences: bool = False) -> Nearness:
    """A student after so many steps on its little text."""
    tokenizer, ids, apart = _material()
    model = _student()
    loss = TaughtLoss(teacher=_teacher(), mode=mode, hard=hard, vocab_size=tokenizer.vocab_size)
    optimizer = build_optimizer(model, AdamW(lr=8e-3))
    optimizer.set_lr(1.0)
    batches = [_drawn(ids[:LITTLE], step) for step in range(STEPS)]
    batches = _by_the_teacher(batches[:24]) * (STEPS // 24 + 1) if sequences else batches
    for batch in batches[:STEPS]:
        optimizer.zero_grad()
        loss(model, batch).mean().backward()
        optimizer.step()
    return _near(model, apart)


def _near(model: Decoder, apart: Tensor) -> Nearness:
    held = batch_of([piece.tolist() for piece in apart[: 24 * LENGTH].split(LENGTH)])
    return nearness(model, _teacher(), [held], vocab_size=_material()[0].vocab_size)


def students_of_a_teacher() -> Exhibit:
    """The same student, text and number of steps: soft targets teach more than the text, and more than the teacher's own texts."""
    ways = {
        "the text's tokens (hard labels)": _taught(ForwardKl(), 1.0),
        "the teacher's texts (sequence level)": _taught(ForwardKl(), 1.0, True),
        "forward KL": _taught(ForwardKl(), 0.0),
        "forward KL, temperature 2": _taught(ForwardKl(temperature=2.0), 0.0),
        "forward KL and a third hard labels": _taught(ForwardKl(), 1 / 3),
        "Jensen-Shannon, beta 0.5": _taught(JensenShannon(), 0.0),
    }
    teacher = _near(_teacher(), _material()[2])
    rows = [
        [name, one.loss, one.forward_kl, one.reverse_kl, one.agreement]
        for name, one in {"(the teacher)": teacher, **ways}.items()
    ]
    return Exhibit(
        title=f"A student with {LITTLE:,} tokens of text and a teacher that read {len(_material()[1]):,}",
        reads="Measured on a text that neither has seen. A token says one thing of what could follow, a teacher's distribution all of it, so "
        "a student that learns distributions is nearer to the teacher after as many steps, and predicts the unseen text better; the "
        "teacher's own texts, more than the little text there is, come between.",
        columns=["learned from", "loss, nats", "KL(teacher || student)", "KL(student || teacher)", "same likeliest token"],
        rows=rows,
    )  # fmt: skip


def directions_of_divergence() -> Exhibit:
    """One Gaussian for a teacher of two humps: forward KL covers both, reverse KL chooses one."""
    places = torch.linspace(-6, 6, 241)
    teacher = torch.logaddexp(-((places + 2.5) ** 2) / 0.8 + 0.3, -((places - 2.5) ** 2) / 0.8)
    teacher = teacher.log_softmax(0)
    fits: dict[str, tuple[float, float, Tensor]] = {}
    modes: dict[str, Mode] = {
        "forward KL": ForwardKl(),
        "Jensen-Shannon, beta 0.5": JensenShannon(),
        "reverse KL": ReverseKl(),
    }
    centres, widths = torch.linspace(-4, 4, 81), torch.linspace(0.3, 4, 38)
    grid = [
        (c.item(), w.item(), (-((places - c) ** 2) / (2 * w**2)).log_softmax(0))
        for c in centres
        for w in widths
    ]
    drawn = torch.stack([one[2] for one in grid])
    for name, mode in modes.items():
        fits[name] = grid[int(divergence(mode, teacher.expand_as(drawn), drawn).argmin())]
    curves = {"teacher": teacher, **{name: fit[2] for name, fit in fits.items()}}
    return Exhibit(
        title="The nearest Gaussian, by each divergence",
        reads="A student that cannot be like its teacher has to choose. Forward KL pays for what the student leaves out and spreads it over "
        "both humps and the gap between; reverse KL pays for what the teacher would not do and keeps to the higher one.",
        columns=["divergence", "centre", "standard deviation"],
        rows=[[name, centre, width] for name, (centre, width, _) in fits.items()],
        series=[Series(name=name, x=places.tolist(), y=curve.exp().double().round(decimals=6).tolist()) for name, curve in curves.items()],
        x="outcome",
        y="probability",
    )  # fmt: skip
