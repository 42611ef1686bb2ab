"""Which runs of words TER may move where: the rules of Tercom, arbitrary but part of the measure's definition.

A run of up to 10 words that also stands in the reference, at most 50 places away, may move to where the alignment puts the
reference's run or beside it, if the run is not right already: some word of it, and some word of its counterpart, must be
misaligned, and the counterpart must not be aligned into the run itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.banded import Alignment

MAX_LENGTH = 10
MAX_DISTANCE = 50


class Shift(NamedTuple):
    """Move `length` words from `start` to before the word that now stands at `target`."""

    start: int
    length: int
    target: int

    def apply(self, words: NDArray[np.int64]) -> NDArray[np.int64]:
        """The words in their new order."""
        run, rest = words[self.start : self.start + self.length], np.delete(words, self._run)
        # a target inside or just behind the run counts places from after it, as Tercom does
        at = self.target - self.length if self.target > self.start + self.length else self.target
        return np.concatenate([rest[:at], run, rest[at:]])

    @property
    def _run(self) -> slice:
        return slice(self.start, self.start + self.length)


def possible_shifts(
    words: NDArray[np.int64], reference: NDArray[np.int64], alignment: Alignment, *, most: int
) -> list[Shift]:
    """Every shift worth trying, in order of the run's start, its counterpart's start, and length.

    The search ends with the run that reaches `most` shifts.
    """
    found: list[Shift] = []
    wrong_here = np.concatenate([[0], np.cumsum(alignment.hypothesis_wrong)])
    wrong_there = np.concatenate([[0], np.cumsum(alignment.reference_wrong)])
    for start, place, length in _shared_runs(words, reference):
        here = wrong_here[start + length] - wrong_here[start]
        there = wrong_there[place + length] - wrong_there[place]
        if here and there and not start <= alignment.places[place] < start + length:
            targets = alignment.targets(place, length)
            found += [Shift(start, length, target) for target in targets]
        if len(found) >= most:
            break
    return found


def _shared_runs(words: NDArray[np.int64], reference: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(start in the hypothesis, start in the reference, length) of every shared run."""
    said, wanted = words.tolist(), reference.tolist()
    for start in range(len(said)):
        for place in range(max(0, start - MAX_DISTANCE), min(len(wanted), start + MAX_DISTANCE + 1)):
            for length in range(1, min(MAX_LENGTH, len(said) - start, len(wanted) - place) + 1):
                if said[start + length - 1] != wanted[place + length - 1]:
                    break
                yield start, place, length
