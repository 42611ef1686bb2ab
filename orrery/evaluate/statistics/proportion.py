"""Intervals for a share of successes.

Wilson 1927    the shares p that a test would not refuse, |phat - p| <= z sqrt(p (1 - p) / n). Never empty, never
               outside [0, 1]: 0 right of 20 gives [0, 0.16], where the normal interval says [0, 0].
normal (Wald)  phat +- z sqrt(phat (1 - phat) / n)
"""

from __future__ import annotations

import math

from orrery.evaluate.statistics.estimate import Estimate, normal_estimate, z_value
from orrery.kit.errors import OrreryError


def wilson(successes: float, n: int, level: float = 0.95) -> Estimate:
    """The share of successes with Wilson's score interval; of no trials nothing is known: nan in [0, 1].

    Args:
        successes: a tie may count half.
    """
    z, share = z_value(level), share_of(successes, n)
    if n == 0:
        return Estimate(mean=math.nan, standard_error=math.nan, low=0.0, high=1.0, n=0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    width = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return Estimate(
        mean=share,
        standard_error=math.sqrt(share * (1 - share) / n),
        low=0.0 if successes == 0 else max(0.0, centre - width),  # exact ends, free of rounding
        high=1.0 if successes == n else min(1.0, centre + width),
        n=n,
    )


def wald(successes: float, n: int, level: float = 0.95) -> Estimate:
    """The share of successes with the normal interval: for large n and shares well away from 0 and 1."""
    share = share_of(successes, n)
    return normal_estimate(share, math.sqrt(share * (1 - share) / n) if n else math.nan, n, level=level)


def share_of(successes: float, n: int) -> float:
    """Successes over n; nan of none.

    Raises:
        OrreryError: more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= n:
        raise OrreryError(f"{successes} successes of {n} cannot be; count successes among the trials")
    return successes / n if n else math.nan
