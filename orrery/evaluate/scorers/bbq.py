"""BBQ: which of the three options an answer names, and what that choice counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orrery.evaluate.bias.bbq import choice_scores
from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.choice import LETTERS, choice_letter


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """Accuracies and bias scores (`bias.bbq.choice_scores`). Unscored where no option can be read."""
    letter = choice_letter(answer, 3, texts=[row["ans0"], row["ans1"], row["ans2"]])
    return Unscored("no option chosen") if letter is None else choice_scores(LETTERS.index(letter), row)
