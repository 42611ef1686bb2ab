"""What the votes say: a leaderboard with intervals, how far people agree, and what the left side is worth to them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from orrery.evaluate.arena.votes import Vote, battles
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate
from orrery.evaluate.statistics.kappa import cohen_kappa, fleiss_kappa
from orrery.evaluate.statistics.leaderboard import Standing, leaderboard


@dataclass(frozen=True, kw_only=True)
class Raters:
    """Two people, on how many answers both voted, and how far they agree (Cohen's kappa; nan where both always say one thing)."""

    first: str
    second: str
    n: int
    kappa: float


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Attributes:
    standings: models from the best down (Bradley-Terry, Elo's scale).
    choices: how often each choice was made. left: share of decided votes that went left; 1/2 if sides are of no account.
    raters: every two people with common answers. fleiss: kappa over answers that everybody voted on; None with too few of either.
    ratings: by model and criterion.
    """

    standings: list[Standing]
    choices: dict[str, int]
    left: Estimate
    raters: list[Raters]
    fleiss: float | None
    ratings: dict[str, dict[str, Estimate]]


def tally(votes: Sequence[Vote], *, seed: int = 0) -> Tally:
    """Everything about the votes that count (`votes.read_votes`)."""
    said = {vote.key: _verdict(vote) for vote in votes if vote.winner is not None}
    people = sorted({person for person, *_ in said})
    by = {p: {(q, pair): w for (who, q, pair), w in said.items() if who == p} for p in people}
    decided = [vote.choice == "left" for vote in votes if vote.choice in ("left", "right")]
    raters = []
    for first, second in itertools.combinations(people, 2):
        both = [key for key in by[first] if key in by[second]]
        if both:
            kappa = cohen_kappa([by[first][key] for key in both], [by[second][key] for key in both])
            raters.append(Raters(first=first, second=second, n=len(both), kappa=kappa))
    return Tally(
        standings=leaderboard(battles(votes), seed=seed),
        choices=dict(Counter(str(vote.choice) for vote in votes)),
        left=mean_estimate(decided),
        raters=raters,
        fleiss=_fleiss(list(by.values())),
        ratings=_ratings(votes),
    )


def _verdict(vote: Vote) -> int:
    """The pair's first model by name, its second, or neither (-1): wherever they stood."""
    names = sorted((vote.left, vote.right))
    return names.index(vote.winner) if vote.winner else -1


def _fleiss(by: Sequence[dict]) -> float | None:
    """Over what everybody voted on."""
    common = [key for key in by[0] if all(key in other for other in by[1:])] if len(by) > 1 else []
    if len(common) < 2:
        return None
    said = [Counter(other[key] for other in by) for key in common]
    return fleiss_kappa([[count[verdict] for verdict in (0, 1, -1)] for count in said])


def _ratings(votes: Sequence[Vote]) -> dict[str, dict[str, Estimate]]:
    given: dict[str, dict[str, list[int]]] = {}
    for vote in votes:
        for model, grades in vote.ratings.items():
            for name, grade in grades.items():
                given.setdefault(model, {}).setdefault(name, []).append(grade)
    return {model: {name: mean_estimate(g) for name, g in of.items()} for model, of in sorted(given.items())}
