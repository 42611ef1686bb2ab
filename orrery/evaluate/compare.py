"""Two models on the same questions: the differences question by question, not of the two means.

What is hard is hard for both, so differences scatter less than scores do, and an interval of the difference is narrower than the two
intervals lead one to think. Source: Miller 2024, arXiv:2411.00640, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult
from orrery.evaluate.statistics.bootstrap import paired_bootstrap
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.statistics.paired import McNemar, mcnemar
from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class MetricDifference:
    """b less a in one metric.

    Attributes:
        a, b: the means over the questions that both answered. difference: with the paired bootstrap's interval. p_value: of it.
        mcnemar: for rights and wrongs: questions only a has right, only b has right, and the exact p-value.
    """

    metric: str
    a: float
    b: float
    difference: Estimate
    p_value: float
    mcnemar: McNemar | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        told = asdict(self) | {"difference": self.difference.to_dict()}
        return told | {"mcnemar": None if self.mcnemar is None else self.mcnemar._asdict()}


@dataclass(frozen=True, kw_only=True)
class TaskDifference:
    """Two results of one task. n: questions scored in both; left_out: those in one of them only, or scored in one only."""

    task: str
    n: int
    left_out: int
    metrics: Mapping[str, MetricDifference]


def compare(a: TaskResult, b: TaskResult, *, resamples: int = 2000, seed: int = 0) -> TaskDifference:
    """Paired differences b - a in every metric that both have.

    Raises:
        OrreryError: they are of different tasks or versions, or have no question in common.
    """
    names = [
        result.task.partition("@")[0] for result in (a, b)
    ]  # ways of asking one task have names behind an @
    if names[0] != names[1] or str(a.version) != str(b.version):
        raise OrreryError(
            f"'{a.task}' version {a.version} and '{b.task}' version {b.version} cannot be compared; measure both with the same"
        )
    others = {(record.id, record.key): record for record in b.records}
    pairs = [(mine, others[at]) for mine in a.records if (at := (mine.id, mine.key)) in others]
    scored = [(mine, other) for mine, other in pairs if not mine.unscored and not other.unscored]
    if not scored:
        raise OrreryError(
            f"the two results of '{a.task}' have no question in common that both have a score for"
        )
    shared = [name for name in scored[0][0].scores if name in scored[0][1].scores]
    metrics = {name: _difference(name, scored, resamples, seed) for name in shared}
    total = len({(r.id, r.key) for r in (*a.records, *b.records)})
    return TaskDifference(task=a.task, n=len(scored), left_out=total - len(scored), metrics=metrics)


def _difference(name: str, pairs: list[tuple[Record, Record]], resamples: int, seed: int) -> MetricDifference:
    both = [(mine, other) for mine, other in pairs if name in mine.scores and name in other.scores]
    first, second = (np.array([_row(pair[side], name) for pair in both]) for side in (0, 1))
    found = paired_bootstrap(first, second, _mean, seed=seed, resamples=resamples)
    right = [np.array([pair[side].scores[name] for pair in both]) for side in (0, 1)]
    graded = not all(np.isin(values, (0, 1)).all() for values in right)
    return MetricDifference(
        metric=name, a=_mean(first), b=_mean(second), difference=found.difference, p_value=found.p_value,
        mcnemar=None if graded else mcnemar(*right),
    )  # fmt: skip


def _row(record: Record, name: str) -> tuple[float, float]:
    """(score times weight, weight): resampled rows keep their weights. Bits per byte weigh as many as there are bytes."""
    weight = record.weights.get(name, record.detail.get("bytes", 1.0) if name == "bits_per_byte" else 1.0)
    return record.scores[name] * weight, weight


def _mean(rows: NDArray[np.float64]) -> float:
    sums = rows.sum(0)
    return float(sums[0] / sums[1])
