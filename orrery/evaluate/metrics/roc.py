"""The ROC curve: which share of positives and of negatives lies above a threshold, for every threshold.

    AUC = area under it = P(a positive scores higher than a negative) + P(they tie) / 2

Only the order of the scores counts. Hanley & McNeil 1982, Radiology 143.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class Roc:
    """Points from (0, 0) to (1, 1): calling positive whatever scores at least `thresholds[i]` (the first is infinite)."""

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """The area by trapezoids; nan without positives or without negatives."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


def roc_curve(scores: ArrayLike, labels: ArrayLike) -> Roc:
    """One point for every different score, from the highest down.

    Args:
        scores: (n,) higher means more surely positive.
        labels: (n,) true or 1 for positives. Rates of a class that is absent are nan.

    Raises:
        OrreryError: not equally many, or a score that is nan.
    """
    score = np.asarray(scores, dtype=np.float64).reshape(-1)
    label = np.asarray(labels).reshape(-1).astype(bool)
    if len(score) != len(label):
        raise OrreryError(f"every item needs a score and a label; there are {len(score)} and {len(label)}")
    if np.isnan(score).any():
        raise OrreryError("a score is not a number; leave items without a score out, and count them")
    levels, at = np.unique(-score, return_inverse=True)
    positives = np.bincount(at, weights=label, minlength=len(levels))
    negatives = np.bincount(at, weights=~label, minlength=len(levels))
    return Roc(
        false_positive_rate=_share(negatives),
        true_positive_rate=_share(positives),
        thresholds=np.concatenate([[math.inf], -levels]),
    )


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The area under the ROC curve, ties counted half; nan unless both classes are there."""
    return roc_curve(scores, labels).auc


def _share(counts: NDArray[Any]) -> NDArray[np.float64]:
    running = np.concatenate([[0.0], np.cumsum(counts)])
    return running / running[-1] if running[-1] else np.full(len(running), math.nan)
