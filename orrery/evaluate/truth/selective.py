"""Selective answering: answer only where the confidence is at least t, and see what risk remains at what coverage.

    coverage(t) = share of questions answered        risk(t) = share of wrong ones among those answered
    AURC = mean of the risk over coverage 1/n, 2/n, ..., 1        (0: no error at all; that of random order: the overall risk)

Sources: El-Yaniv & Wiener 2010 (risk and coverage); Geifman, Uziel & El-Yaniv 2019, arXiv:1805.08206 (AURC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orrery.evaluate.statistics.proportion import wilson
from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """The curve, most confident first: point i answers everything with confidence >= threshold[i]."""

    threshold: tuple[float, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    wrong: tuple[int, ...]
    answered: tuple[int, ...]
    aurc: float

    def threshold_for(self, risk: float, *, level: float = 0.95) -> float | None:
        """The lowest threshold (most coverage) at which the risk's interval stays at or below `risk`; None where none does.

        Choose it on other questions than those reported.
        """
        pairs = zip(self.threshold, self.wrong, self.answered, strict=True)
        good = [t for t, wrong, answered in pairs if wilson(wrong, answered, level).high <= risk]
        return good[-1] if good else None


def risk_coverage(confidences: Sequence[float], wrong: Sequence[bool]) -> RiskCoverage:
    """The curve of answers with these confidences; equal confidences are answered together.

    Raises:
        OrreryError: not as many of one as of the other, or none.
    """
    if len(confidences) != len(wrong) or not len(wrong):
        raise OrreryError(
            f"a risk-coverage curve needs a confidence for each answer; there are {len(confidences)} for {len(wrong)}"
        )
    values = np.asarray(confidences, dtype=float)
    order = np.argsort(-values, kind="stable")
    sorted_values, errors = values[order], np.cumsum(np.asarray(wrong, dtype=int)[order])
    n = len(values)
    counts = np.arange(1, n + 1)
    last = np.flatnonzero(
        np.append(sorted_values[1:] != sorted_values[:-1], True)
    )  # the end of each group of ties
    risk = errors[last] / counts[last]
    # within a group of ties any order may be: the group's own risk stands for each of its places
    sizes = np.diff(np.append(0, counts[last]))
    return RiskCoverage(
        threshold=tuple(sorted_values[last].tolist()),
        coverage=tuple((counts[last] / n).tolist()),
        risk=tuple(risk.tolist()),
        wrong=tuple(errors[last].tolist()),
        answered=tuple(counts[last].tolist()),
        aurc=float((risk * sizes).sum() / n),
    )
