"""What moves a judge beside the answers: the place, the length, and whose answer it is. Each with an interval.

    place     (ab - ba) / 2 a pair: how much more an answer gets for standing first; 0 for a fair judge, 1/2 for one that always
              takes the first (Wang et al. 2023, arXiv:2305.17926)
    length    logit P(a wins) = theta + phi tanh((length_a - length_b) / s), s the standard deviation of the differences; sigma(theta)
              is the win rate that answers of equal length would have (Dubois et al. 2024, arXiv:2404.04475, whose difficulty of
              each question is left out: it takes a pool of models to know it)
    self      how good the judge finds its own answers less how good others find the same ones (Panickssery et al. 2024, arXiv:2404.13076)

The turns of a question are not independent, so intervals are over questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.judge.pairwise import Judged
from orrery.evaluate.statistics.bootstrap import bootstrap
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate

RIDGE = 0.1
"""Keeps the coefficients finite where length alone tells every verdict; of no weight beside a hundred pairs."""


@dataclass(frozen=True, kw_only=True)
class PositionBias:
    """first: what standing first is worth, -1/2 to 1/2. consistent: share of pairs with the same verdict in both orders.
    flips_to_first, flips_to_second: shares whose verdict went with the place."""

    first: Estimate
    consistent: Estimate
    flips_to_first: Estimate
    flips_to_second: Estimate


def position_bias(judged: Sequence[Judged]) -> PositionBias:
    """From pairs that were scored in both orders."""
    return PositionBias(
        first=over_questions(judged, lambda j: (_x(j.ab) - _x(j.ba)) / 2),
        consistent=over_questions(judged, lambda j: float(j.ab == j.ba)),
        flips_to_first=over_questions(judged, lambda j: float(_x(j.ab) > _x(j.ba))),
        flips_to_second=over_questions(judged, lambda j: float(_x(j.ab) < _x(j.ba))),
    )


@dataclass(frozen=True, kw_only=True)
class LengthBias:
    """raw: a's win rate. controlled: a's win rate at equal lengths. coefficient: phi, above 0 where length is liked.
    longer: the score of whichever answer is longer. matched: a's win rate where lengths differ by less than a fifth."""

    raw: Estimate
    controlled: Estimate
    coefficient: Estimate
    longer: Estimate
    matched: Estimate


def length_bias(judged: Sequence[Judged], *, seed: int = 0, resamples: int = 300) -> LengthBias:
    """From pairs that were scored. Length goes with quality, so that `longer` alone accuses nobody: look at `controlled` beside
    `raw`, and at `controls.py`, where quality is equal by construction."""
    scored = [j for j in judged if j.score is not None]
    gaps = np.array([j.length_a - j.length_b for j in scored], dtype=np.float64)
    spread = float(gaps.std()) or 1.0
    groups: dict[str, list[int]] = {}
    for i, j in enumerate(scored):
        groups.setdefault(j.question, []).append(i)
    rows = list(groups.values())
    x, y = np.tanh(gaps / spread), np.array([_x(j.score) for j in scored])

    def fitted(which: NDArray[np.intp]) -> tuple[float, float]:
        chosen = np.concatenate([rows[k] for k in which]).astype(np.intp)
        return fit_length(x[chosen], y[chosen])

    over = np.arange(len(rows))
    again = {"seed": seed, "resamples": resamples}
    return LengthBias(
        raw=over_questions(judged, lambda j: _x(j.score)),
        controlled=bootstrap(over, lambda which: float(_sigmoid(fitted(which)[0])), **again),
        coefficient=bootstrap(over, lambda which: fitted(which)[1], **again),
        longer=over_questions(
            [j for j in judged if j.length_a != j.length_b],
            lambda j: _x(j.score) if j.length_a > j.length_b else 1 - _x(j.score),
        ),
        matched=over_questions(
            [j for j in judged if 5 * min(j.length_a, j.length_b) >= 4 * max(j.length_a, j.length_b)],
            lambda j: _x(j.score),
        ),
    )


def self_preference(judged: Sequence[Judged], others: Mapping[tuple[str, int], float]) -> Estimate:
    """How much better the judge finds its own answers than others find them, -1 to 1.

    Args:
        judged: pairs of which one answer is the judge's own.
        others: by (question, turn), how good a's answer is by somebody else: people, or another judge's `score`.
    """
    own = [j for j in judged if j.judge in (j.a, j.b) and (j.question, j.turn) in others]
    return over_questions(
        own, lambda j: (_x(j.score) - others[j.question, j.turn]) * (1 if j.judge == j.a else -1)
    )


def over_questions(judged: Sequence[Judged], value: Callable[[Judged], float]) -> Estimate:
    """The mean of a value of scored pairs; each question counts once."""
    groups: dict[str, list[float]] = {}
    for j in judged:
        if j.score is not None:
            groups.setdefault(j.question, []).append(value(j))
    return mean_estimate([sum(values) / len(values) for values in groups.values()])


def fit_length(x: NDArray[np.float64], y: NDArray[np.float64], *, steps: int = 50) -> tuple[float, float]:
    """(theta, phi) of logit E[y] = theta + phi x by Newton's method, y in [0, 1], (n,) each."""
    design = np.stack([np.ones_like(x), x], axis=1)  # (n, 2)
    found = np.zeros(2)
    for _ in range(steps):
        mean = _sigmoid(design @ found)
        gradient = design.T @ (mean - y) + RIDGE * found
        curvature = (design * (mean * (1 - mean))[:, None]).T @ design + RIDGE * np.eye(2)
        move = np.linalg.solve(curvature, gradient)
        found = found - np.clip(move, -2, 2)
        if np.abs(move).max() < 1e-10:
            break
    return float(found[0]), float(found[1])


def _sigmoid(x: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(x)))


def _x(value: float | None) -> float:
    """A score that is known to be there."""
    assert value is not None
    return value
