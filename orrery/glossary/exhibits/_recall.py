"""Small models trained within seconds to answer: one layer, one token a word, asked only for the word behind the prompt."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.fit import Frame, fitted
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.needle import needle
from orrery.evaluate.long_context.words import ADJECTIVES, NAMES, NOUNS
from orrery.glossary.exhibits import _tiny
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.serve.lm import LM
from orrery.text.tokenizer import Tokenizer
from orrery.train.loss import cross_entropy
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.config import Muon
from orrery.train.schedule import Cosine, lr_at

WINDOW = 96
LENGTH, ROWS = 80, 32
"""Tokens of the prompts that needles are learned from, and how many prompts a step."""
Lesson = tuple[Sequence[int], int]
"""A prompt and the token that answers it."""


def word_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """One token for every word and punctuation mark of the texts, and one for all other words."""
    found = {piece for text in texts for piece in re.findall(r"\w+|[^\w\s]+", text)}
    return Tokenizer(
        {
            "version": "1.0",
            "added_tokens": [],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word: i for i, word in enumerate(["[UNK]", *sorted(found)])},
                "unk_token": "[UNK]",
            },
        }
    )


def teach(tokenizer: Tokenizer, lessons: Sequence[Lesson], *, window: int | None = None, steps: int) -> LM:
    """A model of one layer that has learned the lessons, taken in their order, over and over."""
    shape = {"vocab_size": tokenizer.vocab_size, "n_layers": 1, "d_model": 64, "max_positions": 4096}
    local = {"layer_pattern": ("local",), "window": window} if window else {}
    model = Decoder(_tiny.shape(feed_forward=Mlp(d_ff=64), **shape, **local))
    optimizer, schedule = build_optimizer(model, Muon(lr=0.03)), Cosine(warmup=10)
    for step in range(steps):
        rows = [lessons[i % len(lessons)] for i in range(step * ROWS, (step + 1) * ROWS)]
        lengths = [len(ids) for ids, _ in rows]
        optimizer.set_lr(lr_at(schedule, step, steps))
        optimizer.zero_grad()
        hidden = model(torch.tensor([i for ids, _ in rows for i in ids]), Packed(lengths))
        last = torch.tensor(list(accumulate(lengths))) - 1
        wanted = torch.tensor([answer for _, answer in rows])
        cross_entropy(hidden[last], model.head, wanted, torch.ones(ROWS)).mean().backward()
        optimizer.step()
    return LM(model=model.eval(), tokenizer=tokenizer)


def hay() -> Filler:
    """What its needles lie in."""
    return Filler.made_up(sentences=60)


def item(index: int, depth: float | None = None) -> Item:
    """A needle whose secret is a name, one token."""
    return replace(needle(hay(), seed=1, index=index, depth=depth, value_kind="name"), max_tokens=1)


@functools.cache
def recall_lm(window: int | None = None) -> LM:
    """A model that finds needles; with `window` its layer sees so many tokens back and no more."""
    tokenizer, lessons = _needles()
    return teach(tokenizer, lessons, window=window, steps=80)


@functools.cache
def _needles() -> tuple[Tokenizer, list[Lesson]]:
    sample = item(0)
    words = (*ADJECTIVES, *NOUNS, *NAMES, *hay().sentences)
    tokenizer = word_tokenizer((*words, sample.intro, sample.question, sample.lead, sample.context(5)))
    frame = Frame(tokenizer=tokenizer)
    pool = [fitted(item(1000 + i), frame, LENGTH) for i in range(24 * ROWS)]
    return tokenizer, [(trial.ids, tokenizer.id(trial.item.answers[0][0])) for trial in pool]
