"""Edit distance within a band around the diagonal, of many hypotheses at once: what TER computes for every shift it tries.

Only cells up to 25 columns off the diagonal (stretched by the ratio of the lengths) are filled, as in Tercom; one numpy
operation fills a row of the band for all hypotheses, which are all equally long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BAND = 25
FAR = 1 << 40
"""More than any distance: cells outside the band."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Which word of the hypothesis each word of the reference went with.

    `places[j]` is the hypothesis word aligned to reference word j, or the last one before it where nothing is (-1 at the
    front). `*_wrong` flag words that were inserted, deleted or substituted.
    """

    places: list[int]
    hypothesis_wrong: list[bool]
    reference_wrong: list[bool]

    def targets(self, place: int, length: int) -> list[int]:
        """Where in the hypothesis a counterpart of reference words place..place+length-1 may go, without repeats in a row."""
        found: list[int] = []
        for j in range(place - 1, min(place + length, len(self.places))):
            target = 0 if j == -1 else self.places[j] + 1
            if not found or target != found[-1]:
                found.append(target)
        return found


class BandedDistance:
    """Distances of hypotheses from one reference, both as arrays of numbers."""

    def __init__(self, reference: NDArray[np.int64]) -> None:
        self.reference = reference

    def of(self, hypotheses: NDArray[np.int64]) -> NDArray[np.int64]:
        """(c,) distances of (c, n) hypotheses."""
        last = None
        for _, last in self._rows(hypotheses):  # noqa: B007  only the last row counts
            pass
        assert last is not None
        return last[:, -1]

    def trace(self, hypothesis: NDArray[np.int64]) -> tuple[int, Alignment]:
        """The distance and an alignment of (n,) one hypothesis; a substitution before a deletion before an insertion."""
        rows = [(low, row[0].tolist()) for low, row in self._rows(hypothesis[None])]
        said, wanted = hypothesis.tolist(), self.reference.tolist()

        def cell(i: int, j: int) -> int:
            low, row = rows[i]
            return row[j - low] if low <= j < low + len(row) else FAR

        i, j = len(said), len(wanted)
        places, said_wrong, wanted_wrong = [-1] * j, [True] * i, [True] * j
        while i or j:
            here = cell(i, j)
            if i and j and here == cell(i - 1, j - 1) + (said[i - 1] != wanted[j - 1]):
                i, j = i - 1, j - 1
                places[j], said_wrong[i], wanted_wrong[j] = i, said[i] != wanted[j], said[i] != wanted[j]
            elif i and here == cell(i - 1, j) + 1:
                i -= 1
            else:
                j -= 1
                places[j] = i - 1
        alignment = Alignment(places=places, hypothesis_wrong=said_wrong, reference_wrong=wanted_wrong)
        return cell(len(said), len(wanted)), alignment

    def _rows(self, hypotheses: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """For i = 0..n the first column of the band and (c, width) the distances of i words from reference prefixes."""
        (c, n), m = hypotheses.shape, len(self.reference)
        row = np.tile(np.arange(m + 1, dtype=np.int64), (c, 1))
        low = 0
        yield low, row
        ratio = m / n if n else 1.0
        half = math.ceil(ratio / 2 + BAND) if ratio / 2 > BAND else BAND
        for i in range(1, n + 1):
            middle = math.floor(i * ratio)
            start = max(0, middle - half)
            end = m + 1 if i == n else min(m + 1, middle + half)
            above = _columns(row, low, start - 1, end)  # D(i-1, j-1) and D(i-1, j) for j in [start, end)
            wrong = hypotheses[:, i - 1 : i] != self.reference[None, max(start, 1) - 1 : end - 1]
            if start == 0:
                wrong = np.concatenate([np.ones((c, 1), dtype=bool), wrong], axis=1)
            best = np.minimum(above[:, :-1] + wrong, above[:, 1:] + 1)
            # an insertion costs 1 a column: D(i, j) = min over j' <= j of best(j') + j - j'
            columns = np.arange(start, end)
            row, low = np.minimum.accumulate(best - columns, axis=1) + columns, start
            yield low, row


def _columns(row: NDArray[np.int64], low: int, start: int, end: int) -> NDArray[np.int64]:
    """Columns start..end-1 of a band that begins at column `low`; what lies outside is far."""
    found = np.full((len(row), end - start), FAR, dtype=np.int64)
    first, last = max(start, low), min(end, low + row.shape[1])
    found[:, first - start : last - start] = row[:, first - low : last - low]
    return found
