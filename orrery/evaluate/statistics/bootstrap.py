"""The bootstrap: the sample stands for the world, and drawing from it again shows how much a statistic moves.

    items i_1..i_n drawn with replacement from 1..n  ->  statistic of these      repeated `resamples` times
    standard error = their standard deviation, interval = their quantiles        (Efron & Tibshirani 1993, chapter 13)

It needs no formula for the statistic, so it serves corpus BLEU, medians and ratings alike. Rows of sufficient counts
stand in for texts: `values[i]` may be a row, and the statistic sums rows (Koehn 2004, paired for two systems).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.evaluate.statistics.estimate import Estimate, z_value
from orrery.evaluate.statistics.paired import Comparison, same_items
from orrery.kit.seeds import numpy_generator

Statistic = Callable[[NDArray[Any]], float]
"""(n, ...) rows -> one number."""


def mean(rows: NDArray[Any]) -> float:
    """The statistic most asked for."""
    return float(rows.mean())


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = mean,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Estimate:
    """`statistic(values)` with the standard error and percentile interval of its resamples.

    Args:
        values: (n, ...) one row an item. Fewer than two items give no interval; no items give nan.
        resamples: 1000 is enough for a 95% interval; below some 20 items the interval is too narrow.
    """
    rows = np.asarray(values)
    n = len(rows)
    found = statistic(rows) if n else math.nan
    if n < 2:
        return Estimate(mean=found, standard_error=math.nan, low=math.nan, high=math.nan, n=n)
    rng = numpy_generator(seed, "bootstrap")
    draws = np.array([statistic(rows[rng.integers(0, n, n)]) for _ in range(resamples)])
    return from_draws(found, draws, n, level=level)


def paired_bootstrap(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = mean,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Comparison:
    """statistic(b) - statistic(a), both on the same drawn items: what is hard for both cancels.

    The p-value is twice the smaller share of resamples on either side of zero, the draw that was seen counted in, so
    it is never below 2 / (resamples + 1).

    Args:
        a, b: (n, ...) rows item by item in the same order.

    Raises:
        OrreryError: they are not equally many.
    """
    first, second = same_items(a, b)
    n = len(first)
    found = statistic(second) - statistic(first) if n else math.nan
    if n < 2:
        unknown = Estimate(mean=found, standard_error=math.nan, low=math.nan, high=math.nan, n=n)
        return Comparison(difference=unknown, p_value=math.nan)
    rng = numpy_generator(seed, "bootstrap")
    draws = np.empty(resamples)
    for i in range(resamples):
        items = rng.integers(0, n, n)
        draws[i] = statistic(second[items]) - statistic(first[items])
    tail = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Comparison(
        difference=from_draws(found, draws, n, level=level), p_value=min(1.0, 2 * tail / (resamples + 1))
    )


def from_draws(found: float, draws: NDArray[Any], n: int, *, level: float = 0.95) -> Estimate:
    """An estimate whose error and interval are those of resampled values of the statistic, (resamples,)."""
    z_value(level)  # refuses a level that is none
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        mean=float(found), standard_error=float(draws.std(ddof=1)), low=float(low), high=float(high), n=n
    )
