"""The longest common subsequence: what two sequences share in order, gaps allowed.

    L(i, j) = L(i-1, j-1) + 1 if a_i = b_j, else max(L(i-1, j), L(i, j-1))

L grows by 0 or 1 from row to row, so a whole column is one number of len(a) bits, and the next column takes an addition
and two logical operations (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): texts of 100,000 characters
take seconds in plain Python.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple


class Match(NamedTuple):
    """Places of one shared item: a[i] == b[j]."""

    i: int
    j: int


def places(items: Sequence[Hashable]) -> dict[Hashable, int]:
    """item -> the number whose set bits are the places where it stands."""
    found: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        found.setdefault(item, []).append(i)
    size = len(items) // 8 + 1
    masks: dict[Hashable, int] = {}
    for item, where in found.items():
        bits = bytearray(size)
        for i in where:
            bits[i >> 3] |= 1 << (i & 7)
        masks[item] = int.from_bytes(bits, "little")
    return masks


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """How many items the longest common subsequence has."""
    last = 0
    for last in _columns(a, b):  # noqa: B007  only the last column counts
        pass
    return last.bit_count()


def lcs(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Match]:
    """One longest common subsequence as pairs of places, in order.

    Of several, the one that reading the table backwards finds when it takes every match it meets, and otherwise steps
    back in `a` unless that would lose length. Memory: len(a) * len(b) bits.
    """
    rises = [0, *_columns(a, b)]  # rises[j] bit i-1: L(i, j) > L(i-1, j)
    found, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            found.append(Match(i, j))
        elif rises[j] >> (i - 1) & 1:
            j -= 1
        else:
            i -= 1
    return found[::-1]


def lcs_items(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Hashable]:
    """The items of `lcs(a, b)`."""
    return [a[match.i] for match in lcs(a, b)]


def _columns(a: Sequence[Hashable], b: Sequence[Hashable]) -> Iterator[int]:
    """For every j, the number whose bit i-1 says whether L(i, j) > L(i-1, j)."""
    masks, full = places(a), (1 << len(a)) - 1
    flat = full  # bit i-1: L(i, j) == L(i-1, j)
    for item in b:
        hit = flat & masks.get(item, 0)
        flat = ((flat + hit) | (flat - hit)) & full
        yield full ^ flat
