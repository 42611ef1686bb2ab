"""A sticky random split of traffic: which arm a user sees is a hash of the experiment's name and the user's.

Nothing is stored, every server answers alike, a user stays in the arm, and two experiments cut across each other
independently. Kohavi, Tang & Xu 2020, Trustworthy Online Controlled Experiments, chapters 4 and 21.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import uniform


def arm_of(unit: str, shares: Mapping[str, float], *, experiment: str, seed: int = 0) -> str:
    """The arm of one unit (a user, better than a request: people notice when answers change hands).

    Growing the first arm's share keeps everyone who is in it: arms are intervals of one number in [0, 1).

    Args:
        shares: arm -> weight, for example {"control": 9, "new": 1}.

    Raises:
        OrreryError: weights that are negative or all zero.
    """
    total = math.fsum(shares.values())
    if not 0 < total < math.inf or min(shares.values()) < 0:
        raise OrreryError(
            "traffic shares must be numbers of 0 or more with a positive sum, such as control=9 new=1"
        )
    place, edge = uniform(seed, "traffic", experiment, unit) * total, 0.0
    for arm, weight in shares.items():
        edge += weight
        if place < edge:
            return arm
    return [arm for arm, weight in shares.items() if weight][
        -1
    ]  # rounding left the last edge below the total


def mismatch_p(counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """How likely so uneven a split is by chance (chi-square); below 0.001 the pipeline loses users: mend it first.

    Args:
        counts: arm -> units seen; shares: arm -> weight, the same arms, all positive.

    Raises:
        OrreryError: different arms, or a weight that is not positive.
    """
    if set(counts) != set(shares) or min(shares.values()) <= 0:
        raise OrreryError("counts and shares must name the same arms, each with a positive share")
    n, total = sum(counts.values()), math.fsum(shares.values())
    if not n:
        return 1.0
    expected = {arm: n * weight / total for arm, weight in shares.items()}
    return chi_square_p(sum((counts[arm] - e) ** 2 / e for arm, e in expected.items()), len(shares) - 1)


def chi_square_p(x: float, degrees: int) -> float:
    """P(chi-square of `degrees` degrees of freedom >= x), by the recurrence of the incomplete gamma function:

    Q(a + 1, y) = Q(a, y) + y^a e^{-y} / Gamma(a + 1), from Q(1/2, y) = erfc(sqrt y) and Q(1, y) = e^{-y}.
    """
    if x <= 0 or degrees < 1:
        return 1.0
    y = x / 2
    a, p = (0.5, math.erfc(math.sqrt(y))) if degrees % 2 else (1.0, math.exp(-y))
    while a < degrees / 2:
        p += math.exp(a * math.log(y) - y - math.lgamma(a + 1))
        a += 1
    return p
