"""A small model that was taught to add five digits in five ways: at once, in steps, by thinking first, by a program, and by a guess that it
checks and mends. Its steps are wrong now and then, so that strategies have something to gain; it is asked sums it was not taught."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.evaluate.strategies import Answer, Question, Voice, answers, parse
from orrery.evaluate.strategies.ask import last_number
from orrery.evaluate.strategies.judging import Reward
from orrery.evaluate.subject import Subject
from orrery.kit.log import console
from orrery.kit.seeds import key
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM
from orrery.text.chat import ChatFormat
from orrery.text.train import TokenizerConfig, train_tokenizer
from orrery.train.config import TrainConfig
from orrery.train.loop import train
from orrery.train.optim.config import Muon
from orrery.train.schedule import Constant
from orrery.tune.dataset import SetConfig, Split
from orrery.tune.examples import Renderer
from orrery.tune.loader import ExampleLoaderConfig
from orrery.tune.material import gather

TERMS, LARGEST, ASKED = 4, 5, 40
WRONG = 0.1
"""How often a step is wrong where steps are taught with errors."""
Sum = tuple[int, ...]


def question(digits: Sum) -> str:
    return " + ".join(map(str, digits)) + " = ?"


def steps(digits: Sum, draw: random.Random | None = None) -> tuple[str, int]:
    """The running sums and what they end at; with `draw` one in ten is off by one or two."""
    total, lines = digits[0], []
    for digit in digits[1:]:
        off = draw.choice((-2, -1, 1, 2)) if draw is not None and draw.random() < WRONG else 0
        lines.append(f"{total} + {digit} = {total + digit + off}")
        total += digit + off
    return "\n".join(lines), total


@functools.cache
def sums() -> tuple[list[Sum], list[Sum]]:
    """Those that are taught, and those that are asked: no sum is both."""
    draw = random.Random(0)
    every = list(dict.fromkeys(tuple(draw.randint(1, LARGEST) for _ in range(TERMS)) for _ in range(900)))
    return every[ASKED:540], every[:ASKED]


def _lessons() -> list[dict[str, Any]]:
    draw, rows = random.Random(1), []

    def row(*turns: str, reasoning: str = "") -> None:
        messages: list[dict[str, str]] = [
            {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)
        ]
        if reasoning:
            messages[-1]["reasoning"] = reasoning
        rows.append({"messages": messages})

    for n, digits in enumerate(sums()[0]):
        asked, (clean, right), (said, end) = question(digits), steps(digits), steps(digits, draw)
        row(f"{asked}\nsteps", f"{said}\nanswer: {end}")
        if n % 2:
            guess = right if draw.random() < 0.5 else right + draw.choice((-2, -1, 1, 2))
            checked = (f"{clean}\ncorrect",) if guess == right else (f"{clean}\nwrong", "again", str(right))
            row(f"{asked}\nguess", str(guess), "check", *checked)
        else:
            row(f"{asked}\nthink", str(right), reasoning=clean)
            row(asked, str(right))
        if n % 4 == 2:
            row(f"{asked}\npython", f"print({' + '.join(map(str, digits))})")
    return rows


def _right(digits: Sum, text: str) -> float:
    return float(last_number(text) == sum(digits))


@dataclass(frozen=True)
class Reasoner:
    """The taught model. `solve` puts a strategy to questions it has not been taught."""

    lm: LM

    @functools.cached_property
    def subject(self) -> Subject:
        return Subject.of(Engine(self.lm))

    def solve(self, strategy: str, *, n: int = ASKED, seed: int = 7, reward: Reward | None = None) -> Solved:
        """`n` sums, each with its verifier."""
        left = sums()[1][:n]
        asked = [
            Question(
                text="", messages=({"role": "user", "content": question(digits)},), own=question(digits), key=last_number,
                check=functools.partial(_right, digits),
            )
            for digits in left
        ]  # fmt: skip
        voice = Voice(subject=self.subject, max_tokens=64)
        found = dict(
            answers(parse(strategy), voice, asked, [key(seed, i) for i in range(len(left))], reward=reward)
        )
        return Solved(
            [found[i] for i in range(len(left))],
            [bool(_right(left[i], found[i].text)) for i in range(len(left))],
        )


@dataclass(frozen=True)
class Solved:
    """Answers, and which of them are right."""

    answers: list[Answer]
    right: list[bool]

    @property
    def accuracy(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def tokens(self) -> float:
        """A question, made by the model."""
        return sum(one.tokens for one in self.answers) / len(self.answers)


@functools.cache
def taught_to_reason(steps: int = 400) -> Reasoner:
    """The model, taught once in a process."""
    return Reasoner(taught(_lessons(), steps=steps, context=64))


def taught(rows: list[dict[str, Any]], *, steps: int, context: int) -> LM:
    """A decoder of two layers, fresh, after so many steps on these conversations."""
    words = [
        message["content"] + " " + message.get("reasoning", "") for row in rows for message in row["messages"]
    ]
    tokenizer = train_tokenizer(words[:1500], TokenizerConfig(vocab_size=320))
    chat = ChatFormat(tokenizer)
    shape: dict[str, Any] = {"d_model": 64, "n_layers": 2, "n_heads": 4, "feed_forward": Mlp(d_ff=128)}
    model = Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size, max_positions=256, **shape), seed=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        material = gather(
            [SetConfig(paths=(str(folder / "rows.jsonl"),))], Renderer(tokenizer=tokenizer, chat=chat, learn="assistant"),
            ExampleLoaderConfig(context=context, rows=1024 // context), root=folder, parts=Split(heldout=0.0),
        )  # fmt: skip
        lessons = TrainConfig(
            steps=steps, precision="fp32", optimizer=Muon(lr=1e-2), schedule=Constant(), validate_every=None, sample_every=None
        )  # fmt: skip
        quiet, console.quiet = console.quiet, True
        try:
            train(lessons, model=model, loader=material.loader, out=folder / "sft", vocabulary=tokenizer)
        finally:
            console.quiet = quiet
    return LM(model=model, tokenizer=tokenizer, chat=chat)
