"""Several samples of one row: the mean of a metric over them (avg@k), and the majority's answer (self-consistency)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from orrery.evaluate.scorers.base import ScoreContext, Scorer, Unscored, Weighted

K = TypeVar("K", bound=Hashable)


def majority_vote(answers: Iterable[K | None]) -> K | None:
    """The answer given most often; of several given equally often, the one that was given first.

    None is an answer that could not be read: it has no vote. None comes back where nobody votes.
    (Wang et al. 2022, "Self-consistency improves chain of thought reasoning", arXiv:2203.11171.)
    """
    votes: dict[K, int] = {}
    for answer in answers:
        if answer is not None:
            votes[answer] = votes.get(answer, 0) + 1
    return max(votes, key=lambda answer: votes[answer]) if votes else None  # max keeps the first of equals


def over_samples(
    score: Scorer, key: Callable[[str, Mapping[str, Any]], Hashable | None] | None = None
) -> Scorer:
    """A scorer of one answer made into one of all samples of a row.

    Each metric becomes its mean over the samples that could be scored; Unscored only where none could. With `key`, which
    reads the normalised answer out of a text, the metric `majority` is added: the first sample with the majority's answer,
    scored. One sample is scored as it is.
    """

    def scored(
        answer: str, row: Mapping[str, Any], context: ScoreContext, /
    ) -> Mapping[str, float] | Unscored:
        if len(context.answers) < 2:
            return score(answer, row, context)
        results = [score(sample, row, context) for sample in context.answers]
        read = [result for result in results if not isinstance(result, Unscored)]
        if not read:
            return results[0]
        means = {name: _mean([result[name] for result in read]) for name in read[0]}
        if key is not None:
            keys = [key(sample, row) for sample in context.answers]
            winner = results[keys.index(majority_vote(keys))]
            if not isinstance(winner, Unscored):
                means["majority"] = float(next(iter(winner.values())))
        return means

    return scored


def _mean(values: list[float]) -> float:
    """The plain mean; samples of one row weigh the same, and the row as much as each of them."""
    mean = sum(values) / len(values)
    return Weighted(mean, values[0].weight) if isinstance(values[0], Weighted) else mean
