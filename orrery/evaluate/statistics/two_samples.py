"""Two independent groups, such as the arms of an A/B test: how far apart are they, and could that be chance?

    z = (mean_b - mean_a) / sqrt(s_a^2 / n_a + s_b^2 / n_b)         means (Welch 1947, with the normal in place of t)
    z = (p_b - p_a) / sqrt(p (1 - p) (1 / n_a + 1 / n_b))           shares, p of both groups together

For the same items under two systems use `paired`: it sees far smaller differences.
"""

from __future__ import annotations

import math

from numpy.typing import ArrayLike

from orrery.evaluate.statistics.estimate import mean_estimate, normal_estimate, two_sided_p
from orrery.evaluate.statistics.paired import Comparison
from orrery.evaluate.statistics.proportion import share_of


def compare_means(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Comparison:
    """b's mean less a's, of (n_a,) and (n_b,) values of different items; groups of fewer than two give nan."""
    first, second = mean_estimate(a), mean_estimate(b)
    error = math.hypot(first.standard_error, second.standard_error)
    apart = second.mean - first.mean
    z = apart / error if error else (math.copysign(math.inf, apart) if apart else 0.0)
    difference = normal_estimate(apart, error, first.n + second.n, level=level)
    return Comparison(difference=difference, p_value=two_sided_p(z))


def compare_shares(
    successes_a: int, n_a: int, successes_b: int, n_b: int, *, level: float = 0.95
) -> Comparison:
    """b's share of successes less a's, of two independent groups.

    Empty groups give nan; groups without a single success, or without a failure, p = 1.
    """
    a, b, pooled = (
        share_of(successes_a, n_a),
        share_of(successes_b, n_b),
        share_of(successes_a + successes_b, n_a + n_b),
    )
    there = n_a and n_b
    error = math.sqrt(a * (1 - a) / n_a + b * (1 - b) / n_b) if there else math.nan
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b)) if there else math.nan
    difference = normal_estimate(b - a, error, n_a + n_b, level=level)
    return Comparison(difference=difference, p_value=two_sided_p((b - a) / spread if spread else 0.0))
