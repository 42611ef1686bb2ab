"""Factuality: is an answer true of the world? Told apart from faithfulness, since a source may be wrong.

                            faithful                    unfaithful
    factual                 read it, and it is so       knows better than the source
    not factual             repeats a wrong source      made up

Source: Lin et al. 2022, arXiv:2109.07958 (true of the world); Maynez et al. 2020, arXiv:2005.00661 (faithful but not factual).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.statistics.proportion import wilson
from orrery.evaluate.truth.abstain import abstains
from orrery.evaluate.truth.alias import same, tells
from orrery.evaluate.truth.ask import Answer
from orrery.evaluate.truth.faithfulness import Faithfulness

Cell = Literal["factual and faithful", "factual only", "faithful only", "neither"]


@dataclass(frozen=True, kw_only=True)
class Factuality:
    """Of the answers given: told: holding a gold spelling. exact: being one. withheld, unscored: not among them."""

    told: Estimate
    exact: Estimate
    withheld: int
    unscored: int


def factuality(answers: Sequence[Answer]) -> Factuality:
    """Closed-book answers against gold facts; questions without gold are unscored, as are empty texts."""
    scored = [a for a in answers if a.text and a.question.answers]
    given = [a for a in scored if not abstains(a.text)]
    return Factuality(
        told=wilson(sum(tells(a.text, a.question.answers) for a in given), len(given)),
        exact=wilson(sum(same(a.text, a.question.answers) for a in given), len(given)),
        withheld=len(scored) - len(given),
        unscored=len(answers) - len(scored),
    )


def cell(answer: Answer, faithful: Faithfulness) -> Cell:
    """Where an answer stands in the table of both measures; faithful is who has every judged claim supported."""
    factual = tells(answer.text, answer.question.answers)
    if faithful.judged and not faithful.unsupported:
        return "factual and faithful" if factual else "faithful only"
    return "factual only" if factual else "neither"


def cross_table(pairs: Sequence[tuple[Answer, Faithfulness]]) -> dict[Cell, int]:
    """How many answers are factual, faithful, both or neither."""
    counts = Counter(cell(answer, faithful) for answer, faithful in pairs)
    cells: tuple[Cell, ...] = ("factual and faithful", "factual only", "faithful only", "neither")
    return {name: counts[name] for name in cells}
