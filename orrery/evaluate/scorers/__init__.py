"""Scorers of generated answers: `find(name)` gives the function a task file names with `score:`."""

from __future__ import annotations

from orrery.evaluate.scorers.base import ScoreContext, Scorer, Unscored
from orrery.evaluate.scorers.table import SCORERS
from orrery.kit.errors import OrreryError, suggest

__all__ = ["ScoreContext", "Scorer", "Unscored", "find"]


def find(name: str) -> Scorer:
    """The scorer of that name; raises OrreryError with the nearest name."""
    scorer = SCORERS.get(name)
    if scorer is None:
        raise OrreryError(
            f"there is no scorer '{name}'; the scorers are {', '.join(sorted(SCORERS))}.{suggest(name, SCORERS)}"
        )
    return scorer
