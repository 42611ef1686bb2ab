"""Which item of which set stands at each place of an endless sequence: sets by their shares, each in another order every epoch.

draws = SetDraws([1000, 50], shares=[0.9, 0.1], seed=0, purpose="rows")
draws.at(12345)                                     (set, item), at once: nothing is counted up to there
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from orrery.data.mixture import Mixture
from orrery.data.shuffle import shuffled
from orrery.kit.seeds import key


class SetDraws:
    """The sequence, a pure function of its arguments.

    Args:
        sizes: items of each set, 1 or more. shares: in proportion to which they are drawn. purpose: keeps sequences of one seed apart.

    Raises:
        OrreryError: shares that cannot be (`mixture.shares`).
    """

    def __init__(self, sizes: Sequence[int], shares: Sequence[float], *, seed: int, purpose: str) -> None:
        self.sizes = tuple(sizes)
        self.mixture = Mixture(shares, seed=seed)
        self._order = cache(lambda part, epoch: key(seed, purpose, part, epoch))

    def at(self, place: int) -> tuple[int, int]:
        """(set, item) at a place."""
        part, nth = self.mixture.draw(place)
        return part, self.nth(part, nth)

    def nth(self, part: int, nth: int) -> int:
        """The item of a set that is drawn from it as number `nth`, counted from 0 over all epochs."""
        epoch, at = divmod(nth, self.sizes[part])
        return shuffled(at, self.sizes[part], self._order(part, epoch))
