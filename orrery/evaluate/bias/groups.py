"""Whether decisions, or errors, fall differently on groups of people.

    demographic parity    max_g P(yes | g) - min_g P(yes | g)                        Dwork et al. 2012, arXiv:1104.3913
    equalised odds        the larger of the two gaps in P(yes | g, truth)            Hardt et al. 2016, arXiv:1610.02413
    equal opportunity     the gap among those whose truth is yes

0 is equal treatment in that sense. Except in special cases no rule satisfies all of them at once, so which gap matters is a decision
about the use, not about the numbers.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.evaluate.statistics.bootstrap import bootstrap
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.statistics.proportion import wilson
from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class GroupGaps:
    """The three gaps with bootstrap intervals, and each group's share of yes.

    The largest gap of several groups is above 0 by chance alone: compare its interval with that of shuffled groups where groups are
    small or many.
    """

    demographic_parity: Estimate
    equal_opportunity: Estimate
    equalised_odds: Estimate
    shares: dict[Hashable, Estimate]


def group_gaps(
    decisions: ArrayLike, truth: ArrayLike, groups: Sequence[Hashable], *, seed: int = 0, resamples: int = 500
) -> GroupGaps:
    """Gaps between groups of two or more.

    Args:
        decisions, truth: (n,) zeros and ones. groups: (n,) whose they are.

    Raises:
        OrreryError: not equally many, or a single group.
    """
    names = sorted(set(groups), key=str)
    place = {name: i for i, name in enumerate(names)}
    yes, right = np.asarray(decisions, dtype=np.int64), np.asarray(truth, dtype=np.int64)
    if not len(yes) == len(right) == len(groups):
        raise OrreryError(
            f"{len(yes)} decisions, {len(right)} truths and {len(groups)} groups are given; they must be equally many"
        )
    if len(names) < 2:
        raise OrreryError("gaps are between groups, and there is only one; give two or more")
    rows = np.stack([yes, right, np.array([place[name] for name in groups])], axis=1)

    def gap(rows: NDArray[Any], of: int | None) -> float:
        kept = rows if of is None else rows[rows[:, 1] == of]
        shares = [kept[kept[:, 2] == g, 0].mean() for g in range(len(names)) if (kept[:, 2] == g).any()]
        return float(max(shares) - min(shares)) if shares else 0.0

    again = {"seed": seed, "resamples": resamples}
    return GroupGaps(
        demographic_parity=bootstrap(rows, lambda r: gap(r, None), **again),
        equal_opportunity=bootstrap(rows, lambda r: gap(r, 1), **again),
        equalised_odds=bootstrap(rows, lambda r: max(gap(r, 0), gap(r, 1)), **again),
        shares={
            name: wilson(int(yes[rows[:, 2] == i].sum()), int((rows[:, 2] == i).sum()))
            for name, i in place.items()
        },
    )
