"""Top-k error: the share of items whose true class is not among the k classes scored highest.

ImageNet's challenge (ILSVRC, 1000 classes) is judged by top-5 error, because a picture often shows several things of which
one is labelled. Russakovsky et al. 2015, arXiv:1409.0575.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.kit.errors import OrreryError


def top_k_error(scores: ArrayLike, labels: ArrayLike, k: int = 5) -> float:
    """The share of rows whose label is not among the k best scores; nan of no rows.

    Args:
        scores: (n, classes). Of equal scores the class of lower number comes first; nan scores come last.
        labels: (n,) the true class of each row.

    Raises:
        OrreryError: shapes or labels that do not fit, or k below 1.
    """
    table, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if table.ndim != 2 or truth.shape != table.shape[:1] or k < 1:
        raise OrreryError(
            f"scores (n, classes), labels (n,) and k of 1 or more are needed, not {table.shape}, {truth.shape} and {k}"
        )
    if len(truth) == 0:
        return math.nan
    if truth.min() < 0 or truth.max() >= table.shape[1]:
        raise OrreryError(f"labels must be numbers from 0 to {table.shape[1] - 1}, the last class")
    return float(np.mean(_ranks(table, truth) >= k))


def top_k_guess_error(guesses: Sequence[Sequence[Hashable]], labels: Sequence[Hashable], k: int = 5) -> float:
    """The same of lists of guesses, best first, as in ILSVRC's result files (up to five classes a line)."""
    if len(guesses) != len(labels):
        raise OrreryError(
            f"every item needs a list of guesses; there are {len(guesses)} lists for {len(labels)} items"
        )
    missed = sum(label not in row[:k] for row, label in zip(guesses, labels, strict=True))
    return missed / len(labels) if labels else math.nan


def recall_at_k(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """The share of what is relevant that stands among the first k found; nan when nothing is relevant."""
    wanted = set(relevant)
    return len(wanted & set(ranked[:k])) / len(wanted) if wanted else math.nan


def _ranks(table: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how many classes come before the true one."""
    clean = np.where(np.isnan(table), -np.inf, table)
    own = clean[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(table.shape[1])[None, :] < truth[:, None]
    return ((clean > own) | ((clean == own) & earlier)).sum(1)
