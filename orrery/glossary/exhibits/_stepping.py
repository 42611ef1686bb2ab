"""A small model that is to write two words in capitals, one a step, and slips on most steps: what a judge of steps can tell."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path

from orrery.glossary.exhibits._choosing import Start
from orrery.glossary.exhibits._choosing import _lessons as lessons
from orrery.kit.json_lines import write_rows
from orrery.kit.log import console
from orrery.train.config import TrainConfig
from orrery.train.optim.config import AdamW
from orrery.train.schedule import Constant
from orrery.tune.examples import Renderer
from orrery.tune.preference.records import Pair, Thumb
from orrery.tune.reward.config import Level, RewardConfig, RewardLoaderConfig, SelfLabelled
from orrery.tune.reward.items import Item, Told, item_of
from orrery.tune.reward.labelled import Stepped
from orrery.tune.reward.model import RewardModel
from orrery.tune.reward.rollouts import Labeller
from orrery.tune.reward.trainer import RewardMaterial, RewardResult, train_reward
from orrery.tune.rl.problems import Problem, ProblemSet, read_problems

WORDS = [
    "stone",
    "garden",
    "winter",
    "letter",
    "butter",
    "copper",
    "silver",
    "paper",
    "candle",
    "ribbon",
    "kettle",
    "pocket",
]
SLIPS = 2
"""Lessons with a slip for each without one, at every step."""


def worked(words: Sequence[str], right: Sequence[bool]) -> str:
    """The answer in steps; a step that slips stays in small letters."""
    return "\n".join(word.upper() if fine else word for word, fine in zip(words, right, strict=True))


QUESTIONS = tuple(permutations(WORDS, 2))


@functools.cache
def careless(steps: int = 80) -> Start:
    """The model: about one answer in nine is right at both steps, and the most frequent one at neither."""
    shapes = list(product([True] + [False] * SLIPS, repeat=2))
    asked = random.Random(1).sample(QUESTIONS, 40)
    rows = [
        {"prompt": " ".join(words), "completion": worked(words, right)} for words in asked for right in shapes
    ]
    texts = [f"{row['prompt']}\n{row['completion']}\n" for row in rows]
    return lessons(rows, texts[:90], steps=steps, chat=True)


@functools.cache
def problems(*, heldout: bool) -> tuple[Problem, ...]:
    """Questions with their answers, to learn from or to measure with."""
    order = random.Random(2).sample(QUESTIONS, 56)
    rows = [
        {"question": " ".join(words), "answer": worked(words, (True, True))}
        for words in (order[40:] if heldout else order[:40])
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "words.jsonl", rows)
        found = read_problems([ProblemSet(paths=("words.jsonl",))], root=Path(folder), heldout=0)
    return found.sets[0]


def labeller(seed: int = 0, *, responses: int = 4, rollouts: int = 8) -> Labeller:
    """The model as the one who draws answers and judges them."""
    asked = ProblemSet(paths=("words.jsonl",))
    cfg = SelfLabelled(problems=(asked,), responses=responses, max_tokens=16, rollouts=rollouts)
    return Labeller(lm=careless().lm(), cfg=cfg, seed=seed)


def items_of(rows: Sequence[Told]) -> list[Item]:
    """What a reward model reads of them."""
    start = careless()
    renderer = Renderer(tokenizer=start.tokenizer, chat=start.chat, learn="last")
    return [item_of(row, renderer, RewardConfig()) for row in rows]


def judge_from(
    rows: Sequence[Told], heldout: Sequence[Told], level: Level, *, steps: int = 60
) -> tuple[RewardModel, RewardResult]:
    """A reward model that began as the careless model."""
    lm = careless().lm()
    loop = TrainConfig(
        steps=steps, precision="fp32", optimizer=AdamW(lr=3e-3, weight_decay=0.0), schedule=Constant(), validate_every=None,
        sample_every=None,
    )  # fmt: skip
    quiet, console.quiet = console.quiet, True
    try:
        with tempfile.TemporaryDirectory() as folder:
            result = train_reward(
                loop, model=lm.model, level=level, out=folder, loader=RewardLoaderConfig(context=64, rows=32),
                material=RewardMaterial(sets=[items_of(rows)], heldout=items_of(heldout)),
            )  # fmt: skip
    finally:
        console.quiet = quiet
    return RewardModel(lm=lm, head=result.head.requires_grad_(False), level=level), result


def outcomes_of(rows: Sequence[Stepped]) -> list[Thumb]:
    """The same answers, with what is known of their ends alone."""
    return [
        Thumb(
            messages=row.messages, answer=({"role": "assistant", "content": "\n".join(row.steps)},), up=row.labels[-1] > 0, where=row.where
        )
        for row in rows
    ]  # fmt: skip


def pairs_by_capitals(*, heldout: bool) -> list[Pair]:
    """Two of the model's answers to each question at a time, of which the one with more words in capitals is preferred."""
    drawn = labeller(20 + heldout, responses=8).verdicts(problems(heldout=heldout))
    return [
        Pair(messages=a.messages, chosen=max(a, b, key=capitals).answer, rejected=min(a, b, key=capitals).answer, where=a.where)
        for a, b in zip(drawn[::2], drawn[1::2], strict=False)
        if a.messages == b.messages and capitals(a) != capitals(b)
    ]  # fmt: skip


def capitals(one: Thumb) -> int:
    """Words of an answer in capitals."""
    return sum(word.isupper() for word in str(one.answer[0]["content"]).split())
