"""Lost in the middle: how the score depends on where in the context the answer stands.

The same items are asked with the right document (or pair) at each of several positions and all else unchanged, so that positions are
compared on the same items. The report is of a U when both ends beat the middle by more than chance:

    score(first) - score(middle) > 0   and   score(last) - score(middle) > 0      each with its paired bootstrap interval

Source: Liu et al. 2023, arXiv:2307.03172.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.evaluate.long_context.fit import Frame, sized
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.run import Record, Records, estimate, run_trials
from orrery.evaluate.roles import Generates
from orrery.evaluate.statistics.bootstrap import paired_bootstrap
from orrery.evaluate.statistics.estimate import Estimate
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress


@dataclass(frozen=True, kw_only=True)
class PositionCurve:
    """Scores by position, and the two differences that make a U.

    scores: by position (0 is the first of `size`). primacy, recency: first and last position less the middle ones, on the same
    items; None with fewer than two items. unscored: items left out of them because one position has no score.
    """

    size: int
    scores: Mapping[int, Estimate | None]
    middle: tuple[int, ...]
    primacy: Estimate | None
    recency: Estimate | None
    items: int
    unscored: int

    @property
    def u_shaped(self) -> bool:
        """Whether both ends are above the middle beyond chance."""
        sides = (self.primacy, self.recency)
        return all(side is not None and side.low > 0 for side in sides)

    @property
    def verdict(self) -> str:
        """The finding as a sentence."""
        if self.primacy is None or self.recency is None:
            return "too few scored items to compare positions"
        told = f"first less middle {self.primacy.mean:+.2f} [{self.primacy.low:+.2f}, {self.primacy.high:+.2f}], last less middle {self.recency.mean:+.2f} [{self.recency.low:+.2f}, {self.recency.high:+.2f}]"
        if self.u_shaped:
            return f"U-shaped: what stands in the middle is lost more often ({told})"
        kinds = [
            name for name, side in (("the start", self.primacy), ("the end", self.recency)) if side.low > 0
        ]
        if kinds:
            return f"not a U: only {kinds[0]} is better than the middle ({told})"
        return f"no better at the ends than in the middle, as far as {self.items} items can tell ({told})"


def spread(size: int, n: int) -> tuple[int, ...]:
    """`n` positions from the first to the last of `size`, evenly.

    Raises:
        OrreryError: fewer than three positions, or more than there are.
    """
    if not 3 <= n <= size:
        raise OrreryError(f"a sweep needs 3 positions or more among {size} places, not {n}")
    return tuple(round(p) for p in np.linspace(0, size - 1, n).tolist())


def sweep(
    lm: Generates,
    make: Callable[[int, int], Item],
    *,
    n: int,
    size: int,
    positions: Sequence[int],
    frame: Frame,
    context: int,
    progress: Progress | None = None,
) -> tuple[PositionCurve, Records]:
    """Ask `n` items (`make(index, position)`) over `size` units at every position, the last position first."""
    trials = [
        sized(make(index, position), frame, size)
        for index in range(n)
        for position in sorted(positions, reverse=True)
    ]
    records = run_trials(lm, trials, context=context, progress=progress)
    return position_curve(records.rows, size=size), records


def position_curve(rows: Sequence[Record], *, size: int, seed: int = 0) -> PositionCurve:
    """The curve of records whose tags hold `position`; the middle is the middle third of the positions asked."""
    positions = sorted({row.tags["position"] for row in rows})
    table = {(row.index, row.tags["position"]): row.score for row in rows}
    third = len(positions) // 3
    middle = tuple(positions[third : len(positions) - third])
    items = sorted({row.index for row in rows})
    whole = [i for i in items if all(table[i, p] is not None for p in positions)]
    scores = np.array([[table[i, p] for p in positions] for i in whole], dtype=float).reshape(
        -1, len(positions)
    )
    inner = scores[:, third : len(positions) - third].mean(axis=1)
    enough = len(whole) > 1
    return PositionCurve(
        size=size,
        scores={p: estimate(row for row in rows if row.tags["position"] == p) for p in positions},
        middle=middle,
        primacy=paired_bootstrap(inner, scores[:, 0], seed=seed).difference if enough else None,
        recency=paired_bootstrap(inner, scores[:, -1], seed=seed).difference if enough else None,
        items=len(whole),
        unscored=len(items) - len(whole),
    )
