"""Effective context length: up to which prompt length a model still does what it does with short ones.

    L_eff = max { L : score(l) >= threshold for every tested l <= L }

The advertised context says what a model accepts, this says what it uses. The interval comes from the scores' own: the lower end counts
the lengths that pass by their interval's low end, the upper end those that pass by its high end. Answers that were not scored are no
zeros, but a length passes only if it would also pass had all of them been wrong.

Source: Hsieh et al. 2024, arXiv:2404.06654, section 4 (whose threshold, 85.6%, is what Llama 2 7B reaches at 4096 tokens).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orrery.evaluate.long_context.run import Record, Records, estimate
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate

THRESHOLD = 0.856


@dataclass(frozen=True, kw_only=True)
class EffectiveLength:
    """Tokens; 0 where even the shortest tested length fails. `tested` is the longest that was tried.

    scores: the estimate at each length; None where nothing was scored.
    """

    tokens: int
    low: int
    high: int
    tested: int
    threshold: float
    scores: Mapping[int, Estimate | None]

    @property
    def open_end(self) -> bool:
        """Whether every tested length passed, so that the true one may lie beyond."""
        return self.tokens == self.tested


def effective_length(
    rows: Mapping[int, Sequence[Record]], *, threshold: float = THRESHOLD, level: float = 0.95
) -> EffectiveLength:
    """From the records of one task (or of several together) by prompt length."""
    scores = {length: estimate(rows[length], level) for length in sorted(rows)}

    def longest(value: Callable[[Estimate], float]) -> int:
        reached = 0
        for length, score in scores.items():
            if score is None or value(score) * score.n / len(rows[length]) < threshold:
                break
            reached = length
        return reached

    return EffectiveLength(
        tokens=longest(lambda e: e.mean),
        low=longest(lambda e: e.low),
        high=longest(lambda e: e.high),
        tested=max(scores, default=0),
        threshold=threshold,
        scores=scores,
    )


def over_tasks(records: Records) -> dict[int, Estimate]:
    """Mean over the tasks' mean scores at each length (every task counts the same), with an interval over tasks; lengths at which every
    task has a score."""
    means: dict[int, list[float]] = {}
    for task in records.tasks:
        for length, rows in records.by_length(task).items():
            if (score := estimate(rows)) is not None:
                means.setdefault(length, []).append(score.mean)
    return {
        length: mean_estimate(values)
        for length, values in sorted(means.items())
        if len(values) == len(records.tasks)
    }
