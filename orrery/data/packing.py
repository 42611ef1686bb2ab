"""How documents become rows of at most `context` tokens; attention never crosses the pieces of a row.

A document of n tokens offers n - 1 positions: position i reads token i and predicts token i + 1. A document is cut where
a row ends, and the next row goes on with it: the last position before the cut predicts the first token after it, so
no target is lost.

Stream packing (Brown et al. 2020, section B): documents end to end in a new order every epoch, cut every `context`
positions. No room is wasted, many documents are cut. Best-fit packing (Ding et al. 2024, "Fewer Truncations Improve
Language Modeling", arXiv:2404.10830): only documents longer than a row are cut, and the pieces are placed by
best-fit decreasing; some rows are not quite full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator

Ints = npt.NDArray[np.int64]
Long = Literal["split", "drop", "error", "left", "right"]
Run = tuple[int, int, int]
"""document, first position, number of positions"""


class Packing(Protocol):
    """One corpus laid out in rows.

    Attributes:
        rows: rows in one epoch.
        positions: positions with a target in one epoch.
        dropped: positions of documents, or parts of them, that no row holds.
        padding: room in the rows of an epoch that stays empty.
    """

    rows: int
    positions: int
    dropped: int
    padding: int

    def row(self, epoch: int, row: int) -> list[Run]:
        """The pieces of a row."""
        ...

    def sizes(self, rows: Ints) -> Ints:
        """How many positions the given rows hold."""
        ...


class StreamPacking:
    """Documents end to end, cut every `context` positions; only the last row of an epoch may be shorter."""

    def __init__(self, lengths: Ints, context: int, *, seed: int) -> None:
        self._lengths, self._context, self._seed = lengths, context, seed
        self.positions = int(lengths.sum())
        self.rows = -(-self.positions // context)
        self.dropped = 0
        self.padding = self.rows * context - self.positions
        # Two epochs are at hand at once, because a step may end one and begin the next.
        self._order = lru_cache(maxsize=2)(self._make_order)

    def _make_order(self, epoch: int) -> tuple[Ints, Ints]:
        order = numpy_generator(self._seed, "documents", epoch).permutation(len(self._lengths))
        return order, np.cumsum(self._lengths[order])

    def row(self, epoch: int, row: int) -> list[Run]:
        order, ends = self._order(epoch)
        at, stop = row * self._context, min((row + 1) * self._context, self.positions)
        i = int(ends.searchsorted(at, side="right"))
        runs = []
        while at < stop:
            document, end = int(order[i]), int(ends[i])
            length = min(end, stop) - at
            if length:
                runs.append((document, at - end + int(self._lengths[document]), length))
            at += length
            i += 1
        return runs

    def sizes(self, rows: Ints) -> Ints:
        return np.minimum(self._context, self.positions - rows * self._context)


class BestFitPacking:
    """Whole documents, or pieces of those longer than a row, placed in the fullest row that still has room.

    `long` says what happens to a document of more than `context` positions: "split" into pieces, "drop" it, raise an
    "error", or keep only its end ("left": cut on the left) or its beginning ("right"). Rows are the same every epoch;
    only their order changes.
    """

    def __init__(self, lengths: Ints, context: int, *, seed: int, long: Long = "split") -> None:
        pieces = _cut(lengths, context, long)
        mixed = numpy_generator(seed, "pieces").permutation(
            len(pieces.document)
        )  # equal lengths in no fixed order
        order = mixed[np.argsort(-pieces.length[mixed], kind="stable")]
        bins = best_fit_decreasing(pieces.length[order], context)
        by_row = order[np.argsort(bins, kind="stable")]
        self._pieces = _Pieces(pieces.document[by_row], pieces.start[by_row], pieces.length[by_row])
        self.rows = int(bins.max(initial=-1)) + 1
        self._first = np.searchsorted(np.sort(bins), np.arange(self.rows + 1))
        self._sizes = np.bincount(bins, weights=pieces.length[order], minlength=self.rows).astype(np.int64)
        self.positions = int(pieces.length.sum())
        self.dropped = int(lengths.sum()) - self.positions
        self.padding = int((context - self._sizes).sum())

    def row(self, epoch: int, row: int) -> list[Run]:
        here = slice(int(self._first[row]), int(self._first[row + 1]))
        columns = (self._pieces.document, self._pieces.start, self._pieces.length)
        return list(zip(*(column[here].tolist() for column in columns), strict=True))

    def sizes(self, rows: Ints) -> Ints:
        return self._sizes[rows]


@dataclass(frozen=True)
class _Pieces:
    document: Ints
    start: Ints
    length: Ints


def _cut(lengths: Ints, context: int, long: Long) -> _Pieces:
    """Pieces of at most `context` positions."""
    over = np.flatnonzero(lengths > context)
    if long == "error" and len(over):
        raise OrreryError(
            f"{len(over)} documents have more than {context} tokens (the longest {int(lengths.max())}); "
            "raise `context`, or choose what to do with them by `long`: split, drop, left or right"
        )
    document = np.flatnonzero(lengths)
    if long == "split":
        counts = -(-lengths[document] // context)
        document = np.repeat(document, counts)
        nth = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
        start = nth * context
        return _Pieces(document, start, np.minimum(lengths[document] - start, context))
    if long == "drop":
        document = document[lengths[document] <= context]
    length = np.minimum(lengths[document], context)
    start = lengths[document] - length if long == "left" else np.zeros_like(length)
    return _Pieces(document, start, length)


def best_fit_decreasing(lengths: Ints, capacity: int) -> Ints:
    """The bin of every item; `lengths` must fall. Each goes to the bin with the least room that still holds it.

    Bins wait in one stack per amount of room; an integer's bits say which stacks hold any, so the tightest is its
    lowest set bit at or above the item's length. O(n) steps of capacity / 64 machine words.
    """
    waiting: list[list[int]] = [[] for _ in range(capacity + 1)]
    filled, bins, placed = 0, 0, np.empty(len(lengths), dtype=np.int64)
    for i, length in enumerate(lengths.tolist()):
        fits = filled >> length
        if fits:
            room = length + (fits & -fits).bit_length() - 1
            chosen = waiting[room].pop()
            if not waiting[room]:
                filled ^= 1 << room
        else:
            room, chosen, bins = capacity, bins, bins + 1
        placed[i] = chosen
        waiting[room - length].append(chosen)
        filled |= 1 << (room - length)
    return placed
