"""A small model that was taught legal moves of the Game of 24 with three small numbers, drawn at random: a proposer without a plan."""

from __future__ import annotations

import functools
import random
from fractions import Fraction
from typing import Any

from orrery.evaluate.generators.make_number import KINDS, reachable
from orrery.evaluate.scorers import ScoreContext, find
from orrery.evaluate.strategies import Question, Voice, answers, parse
from orrery.evaluate.subject import Subject
from orrery.glossary.exhibits._reasoner import Solved, taught
from orrery.serve.engine.engine import Engine

MOST = 4
TARGETS = (10, 12, 16, 18)


def _joined(a: int, b: int, sign: str) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _lessons(count: int) -> list[dict[str, Any]]:
    """A state and one of its moves. What the first move of a game leaves comes up too."""
    draw, rows = random.Random(3), []
    for _ in range(count):
        numbers = sorted(draw.randint(1, MOST) for _ in range(3))
        for _ in range(2):
            a, b = draw.sample(numbers, 2)
            sign = draw.choice("+-*")
            if sign == "-" and a < b:
                a, b = b, a
            move = f"{a} {sign} {b} = {_joined(a, b, sign)}"
            asked = " ".join(map(str, numbers))
            rows.append(
                {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": move}]}
            )
            numbers.remove(a)
            numbers.remove(b)
            numbers = sorted([*numbers, _joined(a, b, sign)])
    return rows


@functools.cache
def _subject() -> Subject:
    return Subject.of(Engine(taught(_lessons(600), steps=200, context=64)))


@functools.cache
def _puzzles() -> list[dict[str, Any]]:
    """Puzzles of three numbers that need one of the targets."""
    every = [(a, b, c) for a in range(1, MOST + 1) for b in range(a, MOST + 1) for c in range(b, MOST + 1)]
    made = [
        {"expression": table[Fraction(target)], "answer": str(target), "kind": KINDS[1]}
        for numbers in every if (table := reachable(tuple(map(Fraction, numbers)))) for target in TARGETS if Fraction(target) in table
    ]  # fmt: skip
    return [row for row in made if "/" not in row["expression"]][:24]


def solve(strategy: str) -> Solved:
    """The strategy with the model's moves and the exact evaluator."""
    puzzles = _puzzles()
    cfg = parse(
        f"{strategy},game=make-number,evaluator=exact,propose={{{{ state }}}},temperature=1.0,max_tokens=10"
    )
    asked = [Question(text="", messages=({"role": "user", "content": "?"},), fields=row) for row in puzzles]
    voice = Voice(subject=_subject(), max_tokens=16)
    found = dict(answers(cfg, voice, asked, range(len(puzzles))))
    score = find("make_number")
    right = [
        score(found[i].text, row, ScoreContext()) == {"exact_match": 1.0} for i, row in enumerate(puzzles)
    ]
    return Solved([found[i] for i in range(len(puzzles))], right)
