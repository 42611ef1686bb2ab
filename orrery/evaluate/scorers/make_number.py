"""Numbers joined to a target (the Game of 24): any expression counts that uses each number once and has the target's value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.generators.make_number import puzzle_of
from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.equations import exact

_EXPRESSION = re.compile(r"[\d(][\d\s()+\-*/]*[\d)]")


def final_line(answer: str) -> str | None:
    """The last expression with a sign in it, each line read up to its equals sign; None where there is none."""
    for line in reversed(answer.splitlines()):
        for part in reversed(_EXPRESSION.findall(line.partition("=")[0])):
            if re.search(r"[-+*/]", part):
                return str(part)
    return None


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match: the last line's expression uses the row's numbers, each once, and makes the target. Unscored without one."""
    numbers, target = puzzle_of(row)
    said = final_line(answer[-2000:])
    if said is None:
        return Unscored("no expression in the answer")
    used = tuple(sorted(int(n) for n in re.findall(r"\d+", said)))
    return {"exact_match": float(used == numbers and exact(said) == target)}
