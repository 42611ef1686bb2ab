"""Sequences longer than a limit: named policies that say what they lost.

    error   refuse              drop    leave the whole sequence out
    left    cut on the left     right   cut on the right
    split   cut into pieces of at most the limit, losing nothing (with `overlap` tokens repeated between neighbours)

The result is spans, so that roles, weights or offsets can be cut exactly as the ids are. For a pair of sequences under
one limit, `truncate_pair` takes from the longer one first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from orrery.kit.errors import OrreryError, suggest

T = TypeVar("T")
Policy = Literal["error", "drop", "split", "left", "right"]
Span = tuple[int, int]


@dataclass(frozen=True)
class Truncation:
    """Spans [start, end) that were kept, one a piece, and that were lost."""

    kept: tuple[Span, ...]
    lost: tuple[Span, ...]

    @property
    def lost_tokens(self) -> int:
        """How many tokens are in no piece."""
        return sum(end - start for start, end in self.lost)

    def of(self, sequence: Sequence[T]) -> list[Sequence[T]]:
        """The kept pieces of ids, roles, or anything else of that length."""
        return [sequence[start:end] for start, end in self.kept]

    def lost_of(self, sequence: Sequence[T]) -> list[Sequence[T]]:
        """What was cut off."""
        return [sequence[start:end] for start, end in self.lost]


def truncate(length: int, limit: int, policy: Policy, *, overlap: int = 0) -> Truncation:
    """Fit a sequence of `length` tokens into `limit`.

    Raises:
        OrreryError: it does not fit and the policy is "error"; or the policy, limit or overlap makes no sense.
    """
    if policy not in get_args(Policy):
        raise OrreryError(
            f"no truncation policy '{policy}'; policies: {', '.join(get_args(Policy))}.{suggest(policy, get_args(Policy))}"
        )
    if limit < 1 or not 0 <= overlap < limit:
        raise OrreryError(
            f"cannot cut to {limit} tokens with an overlap of {overlap}; need 0 <= overlap < limit"
        )
    if length <= limit:
        return Truncation(((0, length),), ())
    match policy:
        case "error":
            raise OrreryError(
                f"{length} tokens do not fit into {limit}; shorten the text or choose a truncation policy"
            )
        case "drop":
            return Truncation((), ((0, length),))
        case "left":
            return Truncation(((length - limit, length),), ((0, length - limit),))
        case "right":
            return Truncation(((0, limit),), ((limit, length),))
        case "split":
            starts = range(0, length - overlap, limit - overlap)
            return Truncation(tuple((start, min(start + limit, length)) for start in starts), ())


def truncate_pair(first: int, second: int, limit: int) -> tuple[Truncation, Truncation]:
    """Cut two sequences on the right, always the longer one (the second when equal), until both fit into `limit` together.

    Raises:
        OrreryError: a negative limit.
    """
    if limit < 0:
        raise OrreryError(f"cannot cut to {limit} tokens")
    excess = max(first + second - limit, 0)
    even = min(excess, abs(first - second))  # brings the longer down to the shorter
    keep = [first, second]
    keep[0 if first > second else 1] -= even
    rest = excess - even
    keep[0] -= rest // 2
    keep[1] -= rest - rest // 2
    left, right = (
        Truncation(((0, kept),), ((kept, full),) if kept < full else ())
        for kept, full in zip(keep, (first, second), strict=True)
    )
    return left, right
