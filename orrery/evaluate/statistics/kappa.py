"""How far raters agree beyond what their habits alone would give: kappa = (agreed - by chance) / (1 - by chance).

1 is full agreement, 0 what chance gives, below 0 worse. Where chance alone already gives full agreement (everybody always
says the same), kappa has no value: nan.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from orrery.kit.errors import OrreryError

Weights = Literal["none", "linear", "quadratic"]


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable], *, weights: Weights = "none") -> float:
    """Two raters on the same items (Cohen 1960; weighted, Cohen 1968).

    Args:
        weights: how a disagreement counts: "none" all alike; "linear" or "quadratic" by the distance between sorted
            labels, for grades.

    Raises:
        OrreryError: they did not rate equally many items.
    """
    if len(a) != len(b):
        raise OrreryError(f"both raters must rate the same items; there are {len(a)} and {len(b)} ratings")
    labels = sorted(set(a) | set(b), key=lambda label: (type(label).__name__, label))
    index = {label: i for i, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)))  # (labels of a, labels of b)
    for x, y in zip(a, b, strict=True):
        table[index[x], index[y]] += 1
    distance = np.abs(np.subtract.outer(np.arange(len(labels)), np.arange(len(labels)))).astype(float)
    cost = {"none": np.minimum(distance, 1), "linear": distance, "quadratic": distance**2}[weights]
    by_chance = float((cost * np.outer(table.sum(1), table.sum(0))).sum())
    return 1 - float((cost * table).sum()) * len(a) / by_chance if by_chance else math.nan


def fleiss_kappa(counts: ArrayLike) -> float:
    """Any number of raters, not the same for each item (Fleiss 1971).

    Args:
        counts: (items, labels) how many raters gave each item each label.

    Raises:
        OrreryError: items with different numbers of ratings, or fewer than two.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = np.unique(table.sum(1))
    if len(raters) != 1 or raters[0] < 2:
        raise OrreryError("Fleiss' kappa needs the same number of ratings, two or more, for every item")
    m = float(raters[0])
    agreed = float(((np.square(table).sum(1) - m) / (m * (m - 1))).mean())
    by_chance = float(np.square(table.sum(0) / table.sum()).sum())
    return (agreed - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan
