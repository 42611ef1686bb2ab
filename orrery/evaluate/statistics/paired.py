"""Two systems on the same items: what counts is the difference on each item, not the two scores.

mean difference    with the normal interval of the n differences
McNemar 1947       only items where one was right and the other wrong say anything: of b + c such items, is b
                   further from half than fair coin throws would be? Exact: 2 P(Bin(b + c, 1/2) <= min(b, c))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.evaluate.statistics.estimate import Estimate, mean_estimate, two_sided_p
from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far the second exceeds the first, and how often as much would come of chance alone were they equal."""

    difference: Estimate
    p_value: float


class McNemar(NamedTuple):
    """Items only the first has right, only the second has right, and the exact two-sided p-value."""

    b: int
    c: int
    p: float


def paired_difference(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> Comparison:
    """The mean of b - a over items, with the normal interval and z test of the differences.

    Args:
        a, b: (n,) each, item by item in the same order.
    """
    first, second = same_items(a, b)
    difference = mean_estimate(second - first, level)
    error = difference.standard_error
    z = (
        difference.mean / error
        if error
        else (math.copysign(math.inf, difference.mean) if difference.mean else 0.0)
    )
    return Comparison(difference=difference, p_value=two_sided_p(z))


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """The exact test on two columns of right (true, 1) and wrong (false, 0); p is 1 where they never differ.

    Raises:
        OrreryError: not equally many, or values other than 0 and 1 (round or threshold graded scores first).
    """
    first, second = same_items(a, b)
    if not (np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all()):
        raise OrreryError(
            "McNemar's test is for answers that are right (1) or wrong (0); compare graded ones by bootstrap"
        )
    only_a, only_b = int((first > second).sum()), int((second > first).sum())
    n = only_a + only_b
    term, tail = 1, 0
    for k in range(min(only_a, only_b) + 1):  # whole numbers: exact at any size
        tail += term
        term = term * (n - k) // (k + 1)
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**n))


def same_items(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 arrays with one row an item.

    Raises:
        OrreryError: they are not equally many.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(first) != len(second):
        raise OrreryError(
            f"a paired comparison needs the same items; there are {len(first)} of one and {len(second)} of the other"
        )
    return first, second
