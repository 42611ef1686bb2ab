"""Growing drafts with a network that continues its own guesses, level by level, for several sequences at once.

What a node's children are depends on how they will be checked:

coupled     the token the sampler would take from the drafter's distribution with the uniform number of that position (the
            model's own choice will be made with the same number, so the two agree wherever the distributions are close),
            then the likeliest others
rejection   drawn from the drafter's distribution without replacement, and what each was drawn from is kept

A chain is a tree with one branch at every depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orrery.kit.seeds import uniform
from orrery.serve.sampling import Chooser
from orrery.serve.speculate.drafter import Draft, DraftView
from orrery.serve.speculate.verify import inverse


class Plant:
    """The draft of one sequence while it grows.

    Args:
        branches: how many children a node gets, depth by depth.
        limit: nodes at most.
    """

    def __init__(self, view: DraftView, branches: Sequence[int], limit: int) -> None:
        self.view, self.limit = view, limit
        self.branches = tuple(branches[: view.room])
        self.ids: list[int] = []
        self.parents: list[int] = []
        self.rows: list[Tensor] = []
        self.newest: list[int] = [-1]  # the nodes that have no children yet
        self._depth = 0
        self._choosers: dict[int, Chooser] = {-1: view.chooser}

    @property
    def grows(self) -> bool:
        """Whether the newest nodes are to have children."""
        return self._depth < len(self.branches) and len(self.ids) < self.limit and bool(self.newest)

    def branch(self, logits: Tensor) -> None:
        """Give the newest nodes children, from logits (nodes, V) on the CPU."""
        parents, self.newest = self.newest, []
        for parent, row in zip(parents, logits, strict=True):
            chooser = self._choosers[parent]
            row = fitted(row, chooser.vocab)
            wanted = min(self.branches[self._depth], self.limit - len(self.ids))
            draw = _likeliest if self.view.rule == "coupled" else self._drawn
            for token in draw(chooser, row, wanted):
                self.newest.append(len(self.ids))
                self.ids.append(token)
                self.parents.append(parent)
                if self._depth + 1 < len(self.branches):
                    self._choosers[self.newest[-1]] = follower = chooser.clone()
                    follower.push(token)
        self._depth += 1

    def draft(self) -> Draft:
        """What has grown."""
        chain = all(b == 1 for b in self.branches)
        rows = torch.stack(self.rows) if self.rows else None
        return Draft(tuple(self.ids), None if chain else tuple(self.parents), rows)

    def _drawn(self, chooser: Chooser, logits: Tensor, n: int) -> list[int]:
        """n tokens drawn one after another, each from what the ones before it leave."""
        q, tokens = chooser.distribution(logits), []
        for nth in range(n):
            total = q.sum()
            if total <= 0:
                break
            q = q / total
            u = uniform(
                chooser.sampling.seed, "draft", chooser.request_id, chooser.position, len(self.ids), nth
            )
            tokens.append(inverse(q, u))
            self.rows.append(q)
            q = q.index_fill(0, torch.tensor(tokens[-1]), 0.0)
        return tokens


def grow(
    plants: Sequence[Plant], first: Sequence[Tensor], step: Callable[[list[Plant]], Sequence[Tensor]]
) -> list[Draft]:
    """The drafts of all plants.

    Args:
        first: (1, V) for each plant: what follows its last real token.
        step: run the network over the newest nodes of these plants; for each plant (nodes, V).
    """
    growing, logits = list(plants), list(first)
    while growing:
        for plant, rows in zip(growing, logits, strict=True):
            plant.branch(rows)
        growing = [plant for plant in growing if plant.grows]
        logits = list(step(growing)) if growing else []
    return [plant.draft() for plant in plants]


def fitted(logits: Tensor, vocab: int) -> Tensor:
    """(V',) logits as those of a head with `vocab` rows: padding rows, which no token has, are cut or ruled out."""
    missing = vocab - len(logits)
    return logits[:vocab] if missing <= 0 else torch.cat([logits, logits.new_full((missing,), -torch.inf)])


def _likeliest(chooser: Chooser, logits: Tensor, n: int) -> list[int]:
    """The sampler's own choice, then the likeliest others."""
    tokens = [chooser.choose(logits, chooser.position).id]
    if n > 1:
        order = chooser.scores(logits).topk(n).indices.tolist()
        tokens += [token for token in order if token != tokens[0]][: n - 1]
    return tokens
