"""The merge list of a SentencePiece BPE vocabulary, which holds only scores.

SentencePiece merges the two neighbours whose joined text is the best-scored piece, again and again. The merges inside a
stretch of text do not depend on what lies outside while nothing crosses its borders; so a piece can only ever come from
the two parts that make it when its own text is encoded alone. One merge for each piece, in the order of scores, is then
the whole list, and it repeats SentencePiece exactly (a list of all pairs that spell a piece, twice as long, does not:
it ranks two ways to spell the same piece one after the other).

All pieces of one length are encoded at once, a merge at a time, as rows of an array. A stretch of a piece is looked up
by a hash that is a difference of prefix sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orrery.kit.errors import OrreryError

MAX_WORK = 1 << 26  # sum of squared lengths; the largest published vocabularies stay below 2**24
_NONE = np.iinfo(np.int32).max
_BASE = 0x9E3779B97F4A7C15 | 1


class DerivedMerges(list[tuple[str, str]]):
    """Merges that follow from a vocabulary: all their parts and what they make are in it, which need not be checked again."""


def merges_of_scores(pieces: Sequence[str], scores: np.ndarray, where: str) -> DerivedMerges:
    """Pairs in the order in which they are to be merged.

    Args:
        pieces: distinct, none empty; those that merges may make or use.
        scores: one a piece; higher merges earlier, and of equal ones the earlier piece.
        where: names the vocabulary in errors.

    Raises:
        OrreryError: pieces so long that this would take minutes.
    """
    lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))
    if int((lengths * lengths).sum()) > MAX_WORK:
        raise OrreryError(
            f"{where} holds pieces up to {lengths.max()} characters long, too long for a vocabulary"
        )
    order = np.argsort(-scores.astype(np.float64), kind="stable")
    rank = np.empty(len(pieces), np.int32)
    rank[order] = np.arange(len(pieces), dtype=np.int32)
    ends = np.cumsum(lengths)
    table = _Stretches(pieces, ends - lengths, ends, rank)
    cut = np.zeros(len(pieces), np.int64)
    for length in np.unique(lengths[lengths > 1]):
        rows = np.flatnonzero(lengths == length)
        cut[rows] = _last_cuts(table, ends[rows] - length, int(length))
    made = order[cut[order] > 0]
    middle = ends[made] - lengths[made] + cut[made]
    # The pieces' own strings: half a million copies would stay in memory.
    left = order[table.rank(ends[made] - lengths[made], middle)].tolist()
    right = order[table.rank(middle, ends[made])].tolist()
    return DerivedMerges(zip(map(pieces.__getitem__, left), map(pieces.__getitem__, right), strict=True))


def _last_cuts(table: _Stretches, starts: np.ndarray, length: int) -> np.ndarray:
    """For pieces of one length: after how many characters their last merge cuts them, 0 for those never made."""
    cuts = np.zeros(len(starts), np.int64)
    rows = np.arange(len(starts))
    bounds = starts[:, None] + np.arange(length + 1)  # where each symbol begins, and the end
    known = table.known[bounds[:, :-1]].all(axis=1)
    rows, bounds = rows[known], bounds[known]
    pairs = table.rank(bounds[:, :-2], bounds[:, 2:])  # rank of symbols i and i+1 joined
    while len(rows):
        at = pairs.argmin(axis=1)  # the leftmost of the best
        live = pairs[np.arange(len(rows)), at] != _NONE
        rows, bounds, pairs, at = rows[live], bounds[live], pairs[live], at[live]
        if bounds.shape[1] == 3:  # two symbols left, and they join
            cuts[rows] = bounds[:, 1] - bounds[:, 0]
            break
        here = np.arange(len(rows))
        bounds = _without(bounds, at + 1)
        pairs = _without(pairs, at)
        for side in (at - 1, at):
            inside = (side >= 0) & (side < pairs.shape[1])
            row, column = here[inside], side[inside]
            pairs[row, column] = table.rank(bounds[row, column], bounds[row, column + 2])
    return cuts


def _without(rows: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The array with one element less in each row."""
    kept = np.ones(rows.shape, bool)
    kept[np.arange(len(rows)), column] = False
    return rows[kept].reshape(len(rows), rows.shape[1] - 1)


class _Stretches:
    """The rank of the piece that a stretch of the joined pieces spells, if one does."""

    def __init__(self, pieces: Sequence[str], starts: np.ndarray, ends: np.ndarray, rank: np.ndarray) -> None:
        codes = np.frombuffer("".join(pieces).encode("utf-32-le"), np.uint32)
        single = np.zeros(0x110000, bool)
        single[codes[starts[ends - starts == 1]]] = True
        self.known = single[codes]  # which characters of the text are pieces themselves
        mixed = codes.astype(np.uint64)
        mixed += np.uint64(1)
        mixed *= np.uint64(_BASE)
        mixed ^= mixed >> np.uint64(29)
        mixed *= _powers(_BASE, len(mixed) + 1)[:-1]
        self._sums = np.zeros(len(mixed) + 1, np.uint64)
        np.cumsum(mixed, out=self._sums[1:])
        self._shift = _powers(pow(_BASE, -1, 1 << 64), len(mixed) + 1)
        self._bits = np.uint64(64 - max(1, (2 * len(pieces)).bit_length() + 1))
        hashes = self._hash(starts, ends)
        size = 1 << (64 - int(self._bits))
        self._keys, self._ranks = np.zeros(size, np.uint64), np.full(size, _NONE, np.int32)
        slots, waiting = self._slots(hashes), np.arange(len(pieces))
        while len(waiting):  # open addressing: whoever finds its slot taken tries the next
            free = waiting[self._ranks[slots[waiting]] == _NONE]
            self._keys[slots[free]], self._ranks[slots[free]] = hashes[free], rank[free]
            placed = self._keys[slots[waiting]] == hashes[waiting]
            waiting = waiting[~placed]
            slots[waiting] = (slots[waiting] + 1) % size

    def rank(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """int32 of the same shape; a very large number where the stretch is no piece."""
        hashes = self._hash(starts, ends).ravel()
        slots = self._slots(hashes)
        out = np.full(hashes.shape, _NONE, np.int32)
        waiting = np.arange(len(hashes))
        while len(waiting):
            slot = slots[waiting]
            hit = self._keys[slot] == hashes[waiting]
            out[waiting[hit]] = self._ranks[slot[hit]]
            waiting = waiting[~hit & (self._ranks[slot] != _NONE)]
            slots[waiting] = (slots[waiting] + 1) % len(self._keys)
        return out.reshape(starts.shape)

    def _hash(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return (self._sums[ends] - self._sums[starts]) * self._shift[starts]

    def _slots(self, hashes: np.ndarray) -> np.ndarray:
        return ((hashes * np.uint64(0xD6E8FEB86659FD93)) >> self._bits).astype(np.int64)


def _powers(base: int, count: int) -> np.ndarray:
    """base, base^2, ..., as uint64."""
    powers = np.full(count, base, np.uint64)
    return np.cumprod(powers, out=powers)
