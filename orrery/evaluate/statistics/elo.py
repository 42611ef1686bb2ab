"""Elo ratings: after each battle the winner takes points from the loser, more when the win was unexpected.

    expected score of a = 1 / (1 + 10^((r_b - r_a) / 400))            r_a <- r_a + K (score - expected)

Elo 1978, The Rating of Chessplayers. It follows players who change; for models, which do not, the order of battles is
noise and `bradley_terry` the better estimate.
"""

from __future__ import annotations

from collections.abc import Iterable

from orrery.evaluate.statistics.battles import Battle

SCALE = 400.0
START = 1000.0


def expected_score(rating_a: float, rating_b: float) -> float:
    """The points `a` is expected to take of one: 0.76 for 200 points more, 0.91 for 400."""
    return 1 / (1 + 10 ** min((rating_b - rating_a) / SCALE, 300.0))


def elo(
    battles: Iterable[Battle],
    *,
    k: float = 4.0,
    start: float = START,
    ratings: dict[str, float] | None = None,
) -> dict[str, float]:
    """Ratings after the battles in their order; their sum never changes.

    Args:
        k: the most points one battle moves. Chess uses 10 to 40; small values make the order matter less.
        ratings: to go on from (it is not changed); whoever is not in it begins at `start`.
    """
    current = dict(ratings or {})
    for battle in battles:
        a, b = current.setdefault(battle.a, start), current.setdefault(battle.b, start)
        change = k * (battle.score - expected_score(a, b))
        current[battle.a], current[battle.b] = a + change, b - change
    return current
