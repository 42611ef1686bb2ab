"""Bradley-Terry: one strength a model, fitted to all battles at once, in whatever order they were fought.

    p(i beats j) = 1 / (1 + exp(s_j - s_i)),   s = argmax sum_ij w_ij ln p(i beats j) - sum_i s_i^2 / (2 sd^2)

w_ij are points i took from j (a tie: half a point each). The likelihood is concave, so Newton's method finds the one
maximum. Who won or lost everything has no finite strength; a weak normal prior gives one, and hardly moves the others.
Bradley & Terry 1952, Biometrika 39; Hunter 2004, Annals of Statistics 32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.statistics.battles import Battle, models_of, wins_table
from orrery.evaluate.statistics.elo import SCALE, START
from orrery.kit.errors import OrreryError

PRIOR_SD = 5.0
"""Of a strength, in nats: 870 points of Elo."""
NATS_TO_POINTS = SCALE / math.log(10)


def bradley_terry(battles: Sequence[Battle], *, prior_sd: float = PRIOR_SD) -> dict[str, float]:
    """Ratings on Elo's scale (400 points are odds of ten to one), the mean of all models being 1000.

    Args:
        prior_sd: `math.inf` for plain maximum likelihood.

    Raises:
        OrreryError: maximum likelihood was asked for and does not exist (see `strengths`).
    """
    models = models_of(battles)
    found = strengths(wins_table(battles, models), prior_sd=prior_sd)
    return {name: START + NATS_TO_POINTS * float(s) for name, s in zip(models, found, strict=True)}


def strengths(wins: NDArray[np.float64], *, prior_sd: float = PRIOR_SD) -> NDArray[np.float64]:
    """(n,) strengths in nats that sum to 0, from wins[i, j], the points i took from j.

    Raises:
        OrreryError: without a prior, when the models fall into two groups of which one never took a point from the
            other: nothing then says how far apart they are (Ford 1957).
    """
    n = len(wins)
    precision = 1 / prior_sd**2
    if not precision and not _connected(wins):
        raise OrreryError(
            "some models never took a point from the others, so their strengths have no maximum of likelihood; "
            "add battles or give prior_sd, for example 5.0"
        )
    met, points, s = wins + wins.T, wins.sum(1), np.zeros(n)
    for _ in range(100):
        p = _sigmoid(s[:, None] - s[None, :])  # (n, n): row beats column
        slope = points - (met * p).sum(1) - precision * s
        weight = met * p * (1 - p)
        curve = (
            np.diag(weight.sum(1) + precision) - weight + 1 / max(n, 1)
        )  # the added constant pins the free sum at 0
        step = np.linalg.solve(curve, slope)
        # far from the maximum a full Newton step may overshoot; two nats at a time always get there
        s = s + step * min(1.0, 2.0 / max(float(np.abs(step).max(initial=0)), 1e-12))
        if np.abs(step).max(initial=0) < 1e-10:
            break
    return s - s.mean() if n else s


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(x / 2))  # does not overflow


def _connected(wins: NDArray[np.float64]) -> bool:
    """Whether a chain of points taken leads from every model to every other."""
    reach = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, math.ceil(math.log2(max(len(wins), 2))))):
        reach = (reach.astype(np.int64) @ reach) > 0  # paths twice as long
    return bool(reach.all())
