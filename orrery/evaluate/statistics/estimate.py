"""A measured number with its uncertainty: mean, standard error and an interval that holds the truth in 95 of 100 repeats.

    mean +- z * s / sqrt(n)                                  values drawn independently (one a document or question)
    R = sum y / sum x, with the linearised standard error    a ratio of two sums (Cochran 1977, section 2.11)

What is not known is nan, never zero: the mean of no values, the standard error of one. Miller 2024, arXiv:2411.00640.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from orrery.kit.errors import OrreryError

STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number measured on `n` items, and where the true value may lie."""

    mean: float
    standard_error: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not known is None, since JSON has no nan."""
        return {key: None if math.isnan(value) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


def z_value(level: float) -> float:
    """The half width, in standard errors, of a two-sided normal interval of this level: 1.96 for 0.95.

    Raises:
        OrreryError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise OrreryError(f"an interval's level must lie between 0 and 1, not {level}; 0.95 is the custom")
    return STANDARD_NORMAL.inv_cdf(0.5 + level / 2)


def two_sided_p(z: float) -> float:
    """The chance that a standard normal is at least as far from 0 as `z`; nan for nan."""
    return math.erfc(abs(z) / math.sqrt(2))


def normal_estimate(mean: float, standard_error: float, n: int, *, level: float = 0.95) -> Estimate:
    """An estimate whose interval is the normal one around the mean."""
    width = z_value(level) * standard_error
    return Estimate(mean=mean, standard_error=standard_error, low=mean - width, high=mean + width, n=n)


def mean_estimate(values: ArrayLike, level: float = 0.95) -> Estimate:
    """The mean of independent values with its normal interval.

    Args:
        values: (n,) one number an item, such as 0 or 1 for wrong or right. No values give nan, one value no interval.
        level: the share of repeated measurements whose interval should hold the true mean. It is kept from about
            30 values on; for shares near 0 or 1 `wilson` is the better interval.
    """
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    n = len(array)
    mean = float(array.mean()) if n else math.nan
    error = float(array.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return normal_estimate(mean, error, n, level=level)


def ratio_estimate(numerators: ArrayLike, denominators: ArrayLike, *, level: float = 0.95) -> Estimate:
    """sum(numerators) / sum(denominators) over n items drawn independently: bits over bytes, errors over words.

    Args:
        numerators, denominators: (n,) each; denominators that sum to 0 give nan.

    Raises:
        OrreryError: they are not equally many.
    """
    y = np.asarray(numerators, dtype=np.float64).reshape(-1)
    x = np.asarray(denominators, dtype=np.float64).reshape(-1)
    if len(x) != len(y):
        raise OrreryError(f"a ratio needs a denominator for each numerator; there are {len(y)} and {len(x)}")
    n, total = len(x), float(x.sum())
    ratio = float(y.sum()) / total if total else math.nan
    squares = float(np.square(y - ratio * x).sum())
    error = math.sqrt(n / (n - 1) * squares) / abs(total) if n > 1 and total else math.nan
    return normal_estimate(ratio, error, n, level=level)
