"""How many users, questions or battles a comparison needs, and what it can see with those it has.

    n per arm = (z_{1 - alpha / 2} + z_{power})^2 (sd_a^2 + sd_b^2) / effect^2             (two-sided z test)

A test of power 0.8 overlooks a real effect of the planned size one time in five; a smaller one more often.
"""

from __future__ import annotations

import math

from orrery.evaluate.statistics.estimate import STANDARD_NORMAL
from orrery.kit.errors import OrreryError


def sample_size(
    effect: float, *, sd_a: float, sd_b: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Items in each arm, so that a true difference of means of `effect` is found with probability `power`.

    For the same items under both systems (a paired comparison) give the standard deviation of the differences as
    `sd_a`, and `sd_b=0`.

    Args:
        sd_a, sd_b: standard deviations of one item's value in each arm; the second as the first where left out.

    Raises:
        OrreryError: no effect, or shares that are none.
    """
    if not effect:
        raise OrreryError(
            "a difference of 0 needs no end of items; give the smallest difference that matters"
        )
    if not (0 < alpha < 1 and alpha / 2 < power < 1):
        raise OrreryError(f"alpha {alpha} and power {power} must lie between 0 and 1, power above alpha / 2")
    variance = sd_a**2 + (sd_a if sd_b is None else sd_b) ** 2
    z = STANDARD_NORMAL.inv_cdf(1 - alpha / 2) + STANDARD_NORMAL.inv_cdf(power)
    return max(2, math.ceil(z * z * variance / effect**2))


def sample_size_for_shares(share_a: float, share_b: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Items in each arm to tell two shares of successes apart.

    Raises:
        OrreryError: as `sample_size`, or a share outside [0, 1].
    """
    return sample_size(
        share_b - share_a, sd_a=_spread(share_a), sd_b=_spread(share_b), alpha=alpha, power=power
    )


def power_of(effect: float, n: int, *, sd_a: float, sd_b: float | None = None, alpha: float = 0.05) -> float:
    """The probability that a two-sided z test with `n` items in each arm finds a true difference of `effect`."""
    error = math.sqrt((sd_a**2 + (sd_a if sd_b is None else sd_b) ** 2) / n)
    z, shift = STANDARD_NORMAL.inv_cdf(1 - alpha / 2), effect / error
    return STANDARD_NORMAL.cdf(shift - z) + STANDARD_NORMAL.cdf(-shift - z)


def smallest_effect(
    n: int, *, sd_a: float, sd_b: float | None = None, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The difference that `n` items in each arm find with probability `power`: look at it before running anything."""
    z = STANDARD_NORMAL.inv_cdf(1 - alpha / 2) + STANDARD_NORMAL.inv_cdf(power)
    return z * math.sqrt((sd_a**2 + (sd_a if sd_b is None else sd_b) ** 2) / n)


def _spread(share: float) -> float:
    if not 0 <= share <= 1:
        raise OrreryError(f"a share of successes lies between 0 and 1, not {share}")
    return math.sqrt(share * (1 - share))
