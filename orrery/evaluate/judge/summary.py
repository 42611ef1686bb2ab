"""The numbers of a judged comparison, as plain values for a results file and a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from orrery.evaluate.judge.agreement import agreement, winners
from orrery.evaluate.judge.bias import length_bias, over_questions, position_bias, self_preference
from orrery.evaluate.judge.grading import Graded
from orrery.evaluate.judge.pairwise import Judged
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate

SCORE = {"a": 1.0, "b": 0.0, "tie": 0.5}


def pair_summary(
    judged: Sequence[Judged], others: Mapping[tuple[str, int], str] | None = None
) -> dict[str, Any]:
    """Win rates, what moved the judge, and how far it agrees with others.

    Args:
        others: verdicts of people or of another judge on the same pairs; they show agreement and, where the judge is one of the two
            models, self-preference.
    """
    scored = [j for j in judged if j.score is not None]
    made: dict[str, Any] = {
        "pairs": len(judged),
        "judgements": 2 * len(judged),
        "unscored": sum(j.unscored for j in judged),
        "wins": sum(j.winner == "a" for j in scored),
        "losses": sum(j.winner == "b" for j in scored),
        "ties": sum(j.winner == "tie" for j in scored),
        "win_rate": over_questions(judged, _score),
        "categories": _by(judged, lambda j: j.category, lambda part: over_questions(part, _score)),
        "turns": _by(judged, lambda j: str(j.turn), lambda part: over_questions(part, _score)),
    }
    if scored:
        made |= {"position_bias": position_bias(judged), "length_bias": length_bias(judged)}
    if others:
        made["agreement"] = agreement(winners(judged), others)
        if any(j.judge in (j.a, j.b) for j in judged):
            found = {key: SCORE[winner] for key, winner in others.items()}
            made["self_preference"] = self_preference(judged, found)
    return plain(made)


def grade_summary(graded: Sequence[Graded]) -> dict[str, Any]:
    """Mean grades, over all, by category and by turn."""

    def mean(part: Sequence[Graded]) -> Estimate:
        groups: dict[str, list[float]] = {}
        for g in part:
            if g.score is not None:
                groups.setdefault(g.question, []).append(g.score)
        return mean_estimate([sum(scores) / len(scores) for scores in groups.values()])

    names = sorted({name for g in graded for name in g.grades if name})
    return plain(
        {
            "answers": len(graded),
            "unscored": sum(g.score is None for g in graded),
            "grade": mean(graded),
            "categories": _by(graded, lambda g: g.category, mean),
            "turns": _by(graded, lambda g: str(g.turn), mean),
            "criteria": {
                name: mean_estimate([g.grades[name] for g in graded if name in g.grades]) for name in names
            },
        }
    )


def plain(value: Any) -> Any:
    """Estimates and other dataclasses as JSON has them: what is not known is None, since JSON has no nan."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def _by(
    rows: Sequence[Any], key: Callable[[Any], str], found: Callable[[list[Any]], Estimate]
) -> dict[str, Any]:
    names = sorted({key(row) for row in rows} - {""})
    return {name: found([row for row in rows if key(row) == name]) for name in names}


def _score(judged: Judged) -> float:
    assert judged.score is not None
    return judged.score
