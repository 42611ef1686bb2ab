"""Edit distance (Levenshtein): the fewest insertions, deletions and substitutions that turn one sequence into another.

    D(i, j) = min(D(i-1, j) + 1, D(i, j-1) + 1, D(i-1, j-1) + [a_i != b_j])

Neighbours in the table differ by -1, 0 or 1, so a column is two numbers of len(a) bits (where D rises, where it falls) and
costs a dozen operations on them: Myers 1999, Journal of the ACM 46; Hyyro 2001. The same bits, kept, give the alignment.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Literal, NamedTuple

from orrery.evaluate.metrics.lcs import places

Kind = Literal["match", "substitute", "delete", "insert"]


class Edit(NamedTuple):
    """One step from `a` to `b`: what happens at a[i] and b[j].

    "delete" removes a[i] (standing before b[j]); "insert" puts b[j] before a[i].
    """

    kind: Kind
    i: int
    j: int


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest edits from `a` to `b`: strings by character, lists by item."""
    if len(a) < len(b):
        a, b = b, a  # longer numbers, fewer of them
    distance, top = len(a), 1 << max(len(a) - 1, 0)
    for column in _columns(a, b):
        distance += bool(column.up & top) - bool(column.down & top)
    return distance if a else len(b)


def edit_alignment(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[Edit]:
    """A shortest way from `a` to `b`, step by step; as many steps other than "match" as `edit_distance(a, b)`.

    Memory: 2 * len(a) * len(b) bits.
    """
    rises, falls = [-1], [0]  # column 0: D(i, 0) = i
    for column in _columns(a, b):
        rises.append(column.rises)
        falls.append(column.falls)
    steps, i, j = [], len(a), len(b)
    while i or j:
        if i and rises[j] >> (i - 1) & 1:  # D(i, j) = D(i-1, j) + 1
            i -= 1
            steps.append(Edit("delete", i, j))
        elif (
            not i or falls[j - 1] >> (i - 1) & 1
        ):  # D(i, j-1) = D(i-1, j-1) - 1: it is cheapest to come from there
            j -= 1
            steps.append(Edit("insert", i, j))
        else:
            i, j = i - 1, j - 1
            steps.append(Edit("match" if a[i] == b[j] else "substitute", i, j))
    return steps[::-1]


def error_rate(hypotheses: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]) -> float:
    """Edits over the length of the references, summed over a corpus: word error rate on words, CER on characters.

    References without any item give 0 if the hypotheses are empty too, else infinity.
    """
    edits = sum(edit_distance(h, r) for h, r in zip(hypotheses, references, strict=True))
    length = sum(map(len, references))
    if length:
        return edits / length
    return float("inf") if edits else 0.0


class _Column(NamedTuple):
    """Bit i-1: D(i, j) - D(i-1, j) is 1 (`rises`) or -1 (`falls`); D(i, j) - D(i, j-1) is 1 (`up`) or -1 (`down`)."""

    rises: int
    falls: int
    up: int
    down: int


def _columns(a: Sequence[Hashable], b: Sequence[Hashable]) -> Iterator[_Column]:
    masks, full = places(a), (1 << len(a)) - 1
    rises, falls = full, 0
    for item in b:
        hit = masks.get(item, 0)
        level = (((hit & rises) + rises) ^ rises) | hit | falls  # D(i, j) = D(i-1, j-1)
        up = falls | (full & ~(level | rises))
        down = rises & level
        shifted = up << 1 | 1  # D(0, j) = j: the first row always rises
        rises = (down << 1 | (full & ~(level | shifted))) & full
        falls = shifted & level & full
        yield _Column(rises, falls, up & full, down & full)
