"""A judge beside people, or beside another judge: how often they name the same winner, and how much of that is more than chance.

    agreement = share of pairs with the same verdict (a, b or tie)          kappa = (agreement - chance) / (1 - chance)

People agree with each other about as often as a good judge agrees with them: put their own agreement beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.judge.pairwise import Judged
from orrery.evaluate.statistics.bootstrap import bootstrap
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.statistics.kappa import cohen_kappa
from orrery.evaluate.statistics.proportion import wilson

Winners = Mapping[tuple[str, int], str]
"""By (question, turn): "a", "b" or "tie"."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """same: share of equal verdicts. without_ties: the same where neither says tie. kappa: Cohen's, over all three verdicts."""

    same: Estimate
    without_ties: Estimate
    kappa: Estimate


def winners(judged: Sequence[Judged]) -> dict[tuple[str, int], str]:
    """The verdicts of pairs that were scored."""
    return {(j.question, j.turn): j.winner for j in judged if j.winner is not None}


def agreement(first: Winners, second: Winners, *, seed: int = 0) -> Agreement:
    """Two raters on the pairs that both judged."""
    both = sorted(first.keys() & second.keys())
    pairs = np.array([(first[key], second[key]) for key in both]).reshape(-1, 2)
    decided = [(x, y) for x, y in pairs if "tie" not in (x, y)]
    return Agreement(
        same=wilson(int((pairs[:, 0] == pairs[:, 1]).sum()), len(pairs)),
        without_ties=wilson(sum(x == y for x, y in decided), len(decided)),
        kappa=bootstrap(pairs, _kappa, seed=seed),
    )


def _kappa(pairs: NDArray[Any]) -> float:
    found = cohen_kappa(pairs[:, 0].tolist(), pairs[:, 1].tolist())
    # A drawn sample in which both always say the same one thing agrees fully.
    return 1.0 if np.isnan(found) else found
