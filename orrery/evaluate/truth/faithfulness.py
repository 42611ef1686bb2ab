"""Faithfulness: does an answer say only what its source says? Claim by claim, whether the source is right or not.

    faithfulness = supported claims / claims that could be judged

Source: Maynez et al. 2020, arXiv:2005.00661; Es et al. 2023, arXiv:2309.15217 (the share of supported statements).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.evaluate.statistics.estimate import Estimate, ratio_estimate
from orrery.evaluate.truth.claims import split_claims
from orrery.evaluate.truth.support import Support, overlap_support
from orrery.kit.errors import OrreryError

THRESHOLD = 0.6


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim and its support in [0, 1]; None: the scorer could not tell, and it counts as unscored."""

    text: str
    support: float | None
    supported: bool | None


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """The claims of one answer."""

    claims: tuple[Claim, ...]

    @property
    def judged(self) -> int:
        """Claims the scorer could tell of."""
        return sum(claim.supported is not None for claim in self.claims)

    @property
    def supported(self) -> int:
        """Claims the source supports."""
        return sum(claim.supported is True for claim in self.claims)

    @property
    def score(self) -> float:
        """supported / judged; nan where nothing could be judged."""
        return self.supported / self.judged if self.judged else math.nan

    @property
    def unsupported(self) -> tuple[str, ...]:
        """The claims that the source does not carry."""
        return tuple(claim.text for claim in self.claims if claim.supported is False)


def faithfulness(
    answer: str,
    source: str,
    *,
    support: Support = overlap_support,
    threshold: float = THRESHOLD,
    split: Callable[[str], Sequence[str]] = split_claims,
) -> Faithfulness:
    """Judge every claim of `answer` against `source`. `support` may be a judge: any function (source, claim) -> [0, 1] or None."""
    claims = []
    for text in split(answer):
        value = support(source, text)
        claims.append(
            Claim(text=text, support=value, supported=None if value is None else value >= threshold)
        )
    return Faithfulness(claims=tuple(claims))


def fit_threshold(supports: Sequence[float], supported: Sequence[bool]) -> float:
    """The threshold that splits labelled claims best: halfway between two neighbouring values, by the mean of both classes' accuracy.

    Scorers differ in scale (a related but unsupported claim has much likelihood support): fit on other claims than those judged.

    Raises:
        OrreryError: not equally many of both, or only one class.
    """
    labels = np.asarray(supported, dtype=bool)
    if len(labels) != len(supports) or labels.all() or not labels.any():
        raise OrreryError(
            "a threshold is fitted on claims of both kinds, supported and not, with a value each"
        )
    values = np.asarray(supports, dtype=float)
    ordered = np.unique(values)
    candidates = [*((ordered[1:] + ordered[:-1]) / 2).tolist(), float(ordered[0])]
    scores = [(values[labels] >= c).mean() + (values[~labels] < c).mean() for c in candidates]
    return candidates[int(np.argmax(scores))]


def mean_faithfulness(results: Sequence[Faithfulness]) -> Estimate:
    """Supported of judged claims over many answers; the interval draws answers, whose claims stand or fall together."""
    judged = [result for result in results if result.judged]
    return ratio_estimate([r.supported for r in judged], [r.judged for r in judged])
