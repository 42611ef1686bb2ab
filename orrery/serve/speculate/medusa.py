"""Medusa: heads that each guess further ahead, and a tree of their likeliest combinations (Cai et al. 2024, arXiv:2401.10774).

Head k guesses without knowing what the heads before it said, so a node of the tree is a list of ranks: (0, 2) is the first
head's first guess and then the second head's third. Which combinations are worth a place follows from how often the guess of
each rank was right after training: the tree takes the likeliest node again and again (section 2.3.3).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.model.drafters import Medusa
from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView

Path = tuple[int, ...]


class MedusaDrafter:
    """Drafts a tree with the heads `net`."""

    reads_hidden = True

    def __init__(self, net: Medusa) -> None:
        self.net = net
        self._trees: dict[int, list[Path]] = {}  # by size

    @torch.inference_mode()
    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        able = [view for view in views if min(limit, view.room) > 0 and view.hidden is not None]
        if not able:
            return [NOTHING] * len(views)
        if limit not in self._trees:
            self._trees[limit] = candidate_tree(self.net.accuracy.tolist(), limit)
        paths = self._trees[limit]
        states = self.net(torch.stack([view.hidden for view in able if view.hidden is not None]))
        guesses = []  # by head: (views, ranks) ids
        for k in range(max(len(path) for path in paths)):
            logits = self.net.logits(k, states[k])[:, : able[0].chooser.known]
            guesses.append(logits.topk(1 + max(p[k] for p in paths if len(p) > k)).indices.tolist())
        drafts = {
            view.ticket: tree([by_view[i] for by_view in guesses], [p for p in paths if len(p) <= view.room])
            for i, view in enumerate(able)
        }
        return [drafts.get(view.ticket, NOTHING) for view in views]

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Nothing: the next view has the last state."""

    def forget(self, ticket: int) -> None:
        """Nothing is kept of a sequence."""


def candidate_tree(accuracy: Sequence[Sequence[float]], size: int) -> list[Path]:
    """The `size` paths of ranks with the largest products of accuracies, parents before children.

    Args:
        accuracy: [k][r]: how often the guess of rank r of head k is right.
    """
    # A path's product is at most its parent's and its left sibling's, so the next best is always a neighbour of a chosen one.
    chosen: list[Path] = []
    waiting: list[tuple[float, Path]] = [(0.0, (0,))]
    while waiting and len(chosen) < size:
        _, path = heapq.heappop(waiting)
        chosen.append(path)
        beside, behind = (*path[:-1], path[-1] + 1), (*path, 0)
        for new in (beside, behind):
            if len(new) <= len(accuracy) and new[-1] < len(accuracy[0]):
                heapq.heappush(waiting, (-math.prod(accuracy[k][rank] for k, rank in enumerate(new)), new))
    return chosen


def tree(guesses: Sequence[Sequence[int]], paths: Sequence[Path]) -> Draft:
    """The draft whose node for a path holds, at depth k, guess path[k] of head k."""
    place = {path: node for node, path in enumerate(paths)}
    ids = tuple(guesses[len(path) - 1][path[-1]] for path in paths)
    return Draft(ids, tuple(place.get(path[:-1], -1) for path in paths))
