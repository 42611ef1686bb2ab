"""Temperature scaling: one number that makes a classifier's confidence honest without changing a single answer.

    q = softmax(z / T),    T = argmin -sum_i ln q_i[y_i]    on held-out items

T > 1 softens what is too sure, T < 1 sharpens. The loss is convex in 1/T, so the T where its slope is zero is found by
halving. The order of the classes stays. Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.kit.errors import OrreryError

LIMITS = (0.01, 100.0)
"""Temperatures looked at; items that are all answered rightly would ask for 0, items without a clue for infinity."""


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature of least log loss, within `LIMITS`.

    Args:
        logits: (n, classes) finite.
        labels: (n,) true classes. Not the items on which the result is judged afterwards.

    Raises:
        OrreryError: no items, shapes that do not fit, or logits that are not finite.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or y.shape != z.shape[:1] or not len(y):
        raise OrreryError(
            f"logits (n, classes) and labels (n,) of at least one item are needed, not {z.shape} and {y.shape}"
        )
    if not np.isfinite(z).all():
        raise OrreryError("a logit is not finite; leave out classes that are impossible for every item")
    own = z[np.arange(len(y)), y]
    low, high = (math.log(1 / t) for t in reversed(LIMITS))  # of ln(1 / T)
    for _ in range(60):
        middle = (low + high) / 2
        slope = float(
            (tempered(z, 1 / math.exp(middle)) * z).sum(1).mean() - own.mean()
        )  # of the loss in 1 / T
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def tempered(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """(n, classes) softmax of logits over the temperature."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_loss(logits: ArrayLike, labels: ArrayLike, *, temperature: float = 1.0) -> float:
    """The mean of -ln q[label], in nats."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    top = z.max(axis=-1)
    own = z[np.arange(len(z)), np.asarray(labels, dtype=np.int64)]
    return float((np.log(np.exp(z - top[:, None]).sum(-1)) + top - own).mean())
