"""Calibration: do things said to be 80% sure come true 80 times in 100?

    ECE = sum_b (n_b / n) |accuracy_b - confidence_b|      over bins of confidence (Naeini et al. 2015)

A reliability diagram draws accuracy against confidence bin by bin; the diagonal is perfect. ECE depends on the bins and is
biased upwards on few items; the Brier score and the log loss need no bins. Guo et al. 2017, arXiv:1706.04599.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.kit.errors import OrreryError

Binning = Literal["width", "mass"]


class Bin(NamedTuple):
    """Items whose confidence lies in (low, high]; an empty bin has nan for its means."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def reliability(
    confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: Binning = "width"
) -> list[Bin]:
    """The bins of a reliability diagram, from the least sure up.

    Args:
        confidences: (n,) probabilities in [0, 1] given to the answers.
        correct: (n,) whether each came true.
        binning: "width" cuts [0, 1] evenly; "mass" puts about equally many items in each bin.

    Raises:
        OrreryError: not equally many, or a confidence that is no probability.
    """
    p, right = _checked(confidences, correct)
    inner = (
        np.linspace(0, 1, bins + 1)[1:-1]
        if binning == "width" or not len(p)
        else np.quantile(p, np.arange(1, bins) / bins)
    )
    edges = np.concatenate([[0.0], inner, [1.0]])
    at = np.searchsorted(inner, p, side="left")
    found = []
    for b in range(bins):
        inside = at == b
        n = int(inside.sum())
        means = (float(p[inside].mean()), float(right[inside].mean())) if n else (math.nan, math.nan)
        found.append(Bin(float(edges[b]), float(edges[b + 1]), n, *means))
    return found


def ece(confidences: ArrayLike, correct: ArrayLike, *, bins: int = 15, binning: Binning = "width") -> float:
    """The expected calibration error, 0 to 1; nan of no items. Arguments as `reliability`."""
    table = [b for b in reliability(confidences, correct, bins=bins, binning=binning) if b.n]
    n = sum(b.n for b in table)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in table) / n if n else math.nan


def brier_score(confidences: ArrayLike, correct: ArrayLike) -> float:
    """The mean of (confidence - outcome)^2, 0 is best; nan of no items. Brier 1950."""
    p, right = _checked(confidences, correct)
    return float(np.square(p - right).mean()) if len(p) else math.nan


def _checked(confidences: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.asarray(confidences, dtype=np.float64).reshape(-1)
    right = np.asarray(correct).reshape(-1).astype(np.float64)
    if len(p) != len(right):
        raise OrreryError(
            f"every item needs a confidence and an outcome; there are {len(p)} and {len(right)}"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise OrreryError(
            "confidences must be probabilities between 0 and 1; take exp of log-probabilities first"
        )
    return p, right
