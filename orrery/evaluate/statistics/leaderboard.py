"""A leaderboard: ratings with bootstrap intervals over battles, and ranks that admit what is not known.

A model's rank is 1 + the number of models whose whole interval lies above its own, so models that cannot be told apart
share a rank (Chiang et al. 2024, arXiv:2403.04132).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.statistics.battles import Battle, models_of, wins_table
from orrery.evaluate.statistics.bootstrap import from_draws
from orrery.evaluate.statistics.bradley_terry import NATS_TO_POINTS, strengths
from orrery.evaluate.statistics.elo import START, elo
from orrery.evaluate.statistics.estimate import Estimate
from orrery.kit.seeds import numpy_generator

Method = Literal["bradley_terry", "elo"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One row: a model's rating over `rating.n` battles."""

    model: str
    rank: int
    rating: Estimate
    wins: int
    losses: int
    ties: int


def leaderboard(
    battles: Sequence[Battle],
    *,
    method: Method = "bradley_terry",
    k: float = 4.0,
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> list[Standing]:
    """Models from the best rating down, those of equal rating by name; no battles, no rows.

    Args:
        method: "bradley_terry" of all battles at once, or "elo" in their order with steps of `k`. Resamples of Elo
            come in random order, so its intervals hold what the order alone does.
    """
    models = models_of(battles)
    if not models:
        return []
    rng = numpy_generator(seed, "leaderboard", method)
    if method == "elo":
        found = _elo_row(battles, models, k)
        draws = np.array(
            [
                _elo_row([battles[i] for i in rng.integers(0, len(battles), len(battles))], models, k)
                for _ in range(resamples)
            ]
        )
    else:
        found = START + NATS_TO_POINTS * strengths(wins_table(battles, models))
        draws = _refits(battles, models, resamples, rng)
    counts = Counter((name, battle.winner == side) for battle in battles for side, name in _sides(battle))
    ties = Counter(name for battle in battles if battle.winner == "tie" for _, name in _sides(battle))
    ratings = []
    for i, name in enumerate(models):
        n = counts[name, True] + counts[name, False]
        ratings.append(from_draws(found[i], draws[:, i], n, level=level))
    rows = [
        Standing(
            model=name,
            rank=1 + sum(other.low > mine.high for other in ratings),
            rating=mine,
            wins=counts[name, True],
            losses=counts[name, False] - ties[name],
            ties=ties[name],
        )
        for name, mine in zip(models, ratings, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.rating.mean, row.model))


def _sides(battle: Battle) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("a", battle.a), ("b", battle.b)


def _elo_row(battles: Sequence[Battle], models: Sequence[str], k: float) -> NDArray[np.float64]:
    ratings = elo(battles, k=k)
    return np.array([ratings.get(name, START) for name in models])


def _refits(
    battles: Sequence[Battle], models: Sequence[str], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(resamples, n) ratings of battles drawn anew.

    Battles of one kind (the same pair and winner) are alike, so a resample is one multinomial draw of their numbers.
    """
    kinds = Counter(battles)
    index = {name: i for i, name in enumerate(models)}
    a, b = (
        np.array([index[name] for name in side]) for side in zip(*((k.a, k.b) for k in kinds), strict=True)
    )
    score = np.array([kind.score for kind in kinds])
    shares = np.array(list(kinds.values())) / len(battles)
    rows = []
    for times in rng.multinomial(len(battles), shares, size=resamples):
        wins = np.zeros((len(models), len(models)))
        np.add.at(wins, (a, b), times * score)
        np.add.at(wins, (b, a), times * (1 - score))
        rows.append(START + NATS_TO_POINTS * strengths(wins))
    return np.array(rows)
