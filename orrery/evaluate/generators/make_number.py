"""Numbers to be joined by + - * / to a target, as in the Game of 24. Level 1: three digits, targets to 30; 2: three numbers; 3: four digits;
4: four numbers to 13 make 24, the game itself; 5: four numbers to 20 and targets to 100.

The expression behind a question is one solution, always the same for the same numbers and target, so that a puzzle is on one side of
the split. Solutions without a quotient only are asked for; answers may divide.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from orrery.evaluate.generators.problem import Problem
from orrery.kit.errors import OrreryError

_LEVELS = {1: (3, 9, 5, 30), 2: (3, 13, 24, 60), 3: (4, 9, 10, 40), 4: (4, 13, 24, 24), 5: (4, 20, 30, 100)}
"""Level -> how many numbers, the largest, the least and the largest target."""

Number = int | Fraction
KINDS = ("make 24", "make another")


def draw(generator: random.Random, difficulty: int) -> Problem:
    """One puzzle; the answer is the target."""
    count, most, low, high = _LEVELS[difficulty]
    while True:
        numbers = tuple(sorted(generator.randint(1, most) for _ in range(count)))
        made = _reachable(numbers, divide=False)
        targets = sorted(int(value) for value in made if low <= value <= high)
        if targets:
            break
    target = generator.choice(targets)
    question = f"Use the numbers {', '.join(map(str, numbers))} once each, with + - * / and brackets, to make {target}."
    return Problem(question, made[target], KINDS[target != 24])


def puzzle_of(row: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """The numbers and the target of a row that this generator made.

    Raises:
        OrreryError: another generator made it, or none.
    """
    if row.get("kind") not in KINDS:
        raise OrreryError(
            "only rows of the generator make_number have numbers and a target; measure on the task make_number"
        )
    return tuple(sorted(int(n) for n in re.findall(r"\d+", row["expression"]))), int(row["answer"])


@functools.lru_cache(maxsize=4096)
def reachable(numbers: tuple[Fraction, ...]) -> Mapping[Number, str]:
    """Every value that uses all the numbers once, with the first expression found for it."""
    return _reachable(tuple(sorted(numbers)), divide=True)


def _reachable(numbers: tuple[Number, ...], *, divide: bool) -> dict[Number, str]:
    """What every subset of the numbers makes, from the small ones up: each split in two, each value of the one part with each of the
    other. An expression has brackets inside and none around it."""
    made: dict[int, dict[Number, str]] = {}
    for subset in range(1, 1 << len(numbers)):
        lowest = subset & -subset
        if subset == lowest:
            number = numbers[lowest.bit_length() - 1]
            made[subset] = {number: str(number)}
            continue
        found = made[subset] = {}
        part = (subset - 1) & subset
        while part:
            if part & lowest:  # each split once
                _join(found, made[part], made[subset ^ part], divide)
            part = (part - 1) & subset
    return {
        value: text[1:-1] if " " in text else text for value, text in made[(1 << len(numbers)) - 1].items()
    }


def _join(found: dict[Number, str], these: dict[Number, str], those: dict[Number, str], divide: bool) -> None:
    """Every value of the one with every value of the other by each sign, in both orders where they differ."""
    for a, first in these.items():
        for b, second in those.items():
            for sign, value in (("+", a + b), ("*", a * b), ("-", a - b)):
                if value not in found:
                    found[value] = f"({first} {sign} {second})"
            if b - a not in found:
                found[b - a] = f"({second} - {first})"
            if divide and b and Fraction(a) / b not in found:
                found[Fraction(a) / b] = f"({first} / {second})"
            if divide and a and Fraction(b) / a not in found:
                found[Fraction(b) / a] = f"({second} / {first})"
