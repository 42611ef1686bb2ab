"""Accuracy, precision, recall and F1 of predicted labels.

    precision = TP / (TP + FP)     recall = TP / (TP + FN)     F1 = 2 TP / (2 TP + FP + FN), their harmonic mean

Of one label (`positive`), or of all: "macro" is the mean over labels, each alike however rare; "weighted" weighs labels
by how often they are true; "micro" pools the counts, which for one label an item is accuracy. Where a denominator is 0
(nothing predicted, nothing true) the value is `zero_division`. van Rijsbergen 1979, Information Retrieval, chapter 7.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, NamedTuple

from orrery.kit.errors import OrreryError

Average = Literal["micro", "macro", "weighted"]


class Counts(NamedTuple):
    """Of one label: rightly predicted, wrongly predicted, missed."""

    tp: int
    fp: int
    fn: int


def accuracy(predicted: Sequence[Hashable], actual: Sequence[Hashable]) -> float:
    """The share of items whose label is right; nan of no items."""
    _same_length(predicted, actual)
    return (
        sum(p == a for p, a in zip(predicted, actual, strict=True)) / len(actual) if len(actual) else math.nan
    )


def label_counts(predicted: Sequence[Hashable], actual: Sequence[Hashable]) -> dict[Hashable, Counts]:
    """Counts of every label that was predicted or true."""
    _same_length(predicted, actual)
    right = Counter(a for p, a in zip(predicted, actual, strict=True) if p == a)
    said, true = Counter(predicted), Counter(actual)
    return {
        label: Counts(right[label], said[label] - right[label], true[label] - right[label])
        for label in [*true, *(label for label in said if label not in true)]
    }


def precision(
    predicted: Sequence[Hashable],
    actual: Sequence[Hashable],
    *,
    positive: Hashable | None = None,
    average: Average = "macro",
    zero_division: float = 0.0,
) -> float:
    """How much of what was predicted is true: of the label `positive`, or over all labels."""

    def of(c: Counts) -> float:
        return _ratio(c.tp, c.tp + c.fp, zero_division)

    return _over_labels(of, predicted, actual, positive, average, zero_division)


def recall(
    predicted: Sequence[Hashable],
    actual: Sequence[Hashable],
    *,
    positive: Hashable | None = None,
    average: Average = "macro",
    zero_division: float = 0.0,
) -> float:
    """How much of what is true was predicted: of the label `positive`, or over all labels."""

    def of(c: Counts) -> float:
        return _ratio(c.tp, c.tp + c.fn, zero_division)

    return _over_labels(of, predicted, actual, positive, average, zero_division)


def f1(
    predicted: Sequence[Hashable],
    actual: Sequence[Hashable],
    *,
    positive: Hashable | None = None,
    average: Average = "macro",
    zero_division: float = 0.0,
) -> float:
    """The harmonic mean of precision and recall: of the label `positive`, or over all labels.

    "macro" is the mean of the labels' F1, not the F1 of mean precision and recall.
    """

    def of(c: Counts) -> float:
        return _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn, zero_division)

    return _over_labels(of, predicted, actual, positive, average, zero_division)


def _over_labels(
    of: Callable[[Counts], float],
    predicted: Sequence[Hashable],
    actual: Sequence[Hashable],
    positive: Hashable | None,
    average: Average,
    zero_division: float,
) -> float:
    counts = label_counts(predicted, actual)
    if positive is not None:
        return of(counts.get(positive, Counts(0, 0, 0)))
    if average == "micro":
        tp, fp, fn = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0, 0)
        return of(Counts(tp, fp, fn))
    weights = [1 if average == "macro" else c.tp + c.fn for c in counts.values()]
    total = sum(w * of(c) for w, c in zip(weights, counts.values(), strict=True))
    return _ratio(total, sum(weights), zero_division)


def _ratio(part: float, whole: float, otherwise: float) -> float:
    return part / whole if whole else otherwise


def _same_length(predicted: Sequence[Hashable], actual: Sequence[Hashable]) -> None:
    if len(predicted) != len(actual):
        raise OrreryError(
            f"every item needs one prediction; there are {len(predicted)} predictions for {len(actual)} items"
        )
