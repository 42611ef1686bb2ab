"""Prompt lookup: what followed the last time the text ended like this (Saxena 2023; n-gram speculation).

Summaries, edits and code repeat their source; then the longest earlier match of the last tokens says how it goes on. The
index is that of LZ77 (hash chains): the newest place of every run of `shortest` tokens, and before each place the one before
it. A token costs one dictionary entry to add, and a draft a walk over at most CANDIDATES places.

How much is drafted follows what was kept: all kept doubles the length, less sets it to one more than that; and each
draft of which nothing was kept raises by one how long a match must be, each kept one lowers it. Where nothing
repeats, drafting soon stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from torch import Tensor

from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView

CANDIDATES, LONGEST, FIRST_DRAFT = 32, 64, 4


class SuffixIndex:
    """Where runs of `shortest` tokens stood before, as tokens are added."""

    def __init__(self, shortest: int) -> None:
        self.shortest = shortest
        self.ids: list[int] = []
        self._newest: dict[tuple[int, ...], int] = {}
        self._before: list[int] = []  # for each place, the last place before it with the same run; -1: none

    def extend(self, ids: Sequence[int]) -> None:
        """Add tokens. A place is that of the token after a run, so the newest run has none yet."""
        for token in ids:
            run = tuple(self.ids[-self.shortest :])
            place = len(self.ids)
            self._before.append(self._newest.get(run, -1))
            self._newest[run] = place
            self.ids.append(token)

    def longest_match(self) -> tuple[int, int]:
        """(place, length): the token at `place` followed the longest earlier copy of the last `length` tokens; of
        equally long ones the newest. (-1, 0) where fewer than `shortest` agree."""
        best, length = -1, 0
        place = self._newest.get(tuple(self.ids[-self.shortest :]), -1)
        for _ in range(CANDIDATES):
            if place < self.shortest or length == LONGEST:
                break
            same = self._agreement(place)
            if same > length:
                best, length = place, same
            place = self._before[place]
        return best, length

    def _agreement(self, place: int) -> int:
        """How many tokens before `place` are the last tokens."""
        ids, end, most = self.ids, len(self.ids), min(LONGEST, place)
        same = self.shortest
        while same < most and ids[place - 1 - same] == ids[end - 1 - same]:
            same += 1
        return same


@dataclass
class _Sequence:
    index: SuffixIndex
    length: int = FIRST_DRAFT
    doubt: int = 0
    drafted: tuple[int, ...] = field(default=())

    def learn(self, came: Sequence[int]) -> None:
        """Compare the last draft with what came; where nothing did, it was not looked at."""
        if not self.drafted or not came:
            return
        pairs = zip(self.drafted, came, strict=False)  # more may have come, or the request's end
        kept = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.length = 2 * self.length if kept == len(self.drafted) else kept + 1
        self.doubt = self.doubt + 1 if kept == 0 else max(0, self.doubt - kept)
        self.drafted = ()


class LookupDrafter:
    """Drafts by copying from the sequence itself; `shortest` tokens must agree at least.

    Attributes:
        reads_hidden: no.
    """

    reads_hidden = False

    def __init__(self, *, shortest: int = 2) -> None:
        self.shortest = shortest
        self._sequences: dict[int, _Sequence] = {}

    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        return [self._one(view, min(limit, view.room)) for view in views]

    def _one(self, view: DraftView, limit: int) -> Draft:
        known = self._sequences.setdefault(view.ticket, _Sequence(SuffixIndex(self.shortest)))
        came = view.ids[len(known.index.ids) :]
        known.learn(came)
        known.index.extend(came)
        place, length = known.index.longest_match()
        if length < self.shortest + known.doubt or limit < 1:
            return NOTHING
        ids = known.index.ids
        known.length = min(known.length, limit)
        known.drafted = tuple(copied(ids, place, known.length))
        return Draft(known.drafted)

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Nothing: the next view shows what came."""

    def forget(self, ticket: int) -> None:
        self._sequences.pop(ticket, None)


def copied(ids: Sequence[int], place: int, n: int) -> list[int]:
    """n tokens from `place` on; beyond the end the copy goes on with itself, so a cycle is followed round."""
    period = len(ids) - place
    return [ids[place + i % period] for i in range(n)]
