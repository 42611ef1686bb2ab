"""EAGLE: a layer that continues the model's own states, and so drafts what the model's head makes of them.

The layer reads (h_i, t_(i+1)) for every token that the model has read and so keeps keys and values of its own; behind the
last it goes on with its own states in place of the model's (Li et al. 2024, arXiv:2401.15077). What it read of its own
states is overwritten once the true ones are known.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.model.cache import Cached, KVCache
from orrery.model.drafters import Eagle
from orrery.serve.speculate.beside import Beside
from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView
from orrery.serve.speculate.features import SPARE, Features
from orrery.serve.speculate.grow import Plant, grow
from orrery.serve.speculate.tree_cache import TreeCached, roomier


class EagleDrafter:
    """Drafts with the layer `net`.

    Args:
        branches: children of a node, depth by depth; () is a chain as long as the limit.
    """

    reads_hidden = True

    def __init__(self, net: Eagle, *, branches: Sequence[int] = ()) -> None:
        self.net, self.branches = net, tuple(branches)
        self._features: dict[int, Features] = {}
        self._states: dict[
            int, Tensor
        ] = {}  # by ticket: the layer's states, (1 + nodes, d), row 0 behind the last real token

    @torch.inference_mode()
    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        able = [v for v in views if min(limit, v.room) > 0 and len(self._features.get(v.ticket, ()))]
        if not able:
            return [NOTHING] * len(views)
        plants = [Plant(view, self.branches or (1,) * limit, limit) for view in able]
        made = grow(plants, self._read(able, limit), self._step)
        drafts = dict(zip((view.ticket for view in able), made, strict=True))
        self._states.clear()
        return [drafts.get(view.ticket, NOTHING) for view in views]

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Keep the model's states for the next draft."""
        if hidden is not None:
            self._features.setdefault(ticket, Features()).add(hidden)

    def forget(self, ticket: int) -> None:
        self._features.pop(ticket, None)

    def _read(self, views: Sequence[DraftView], limit: int) -> list[Tensor]:
        """Read the states that wait; (1, V) logits of what follows the last token of each sequence."""
        parts, states, tokens = [], [], []
        for view in views:
            features = self._features[view.ticket]
            n, end = len(features), features.read + len(features)
            if features.cache is None:
                features.cache = KVCache(self.net, rows=1, capacity=end + limit + SPARE)  # type: ignore[bad-argument-type]
            features.cache = roomier(features.cache, self.net, end + limit)
            parts.append(Cached(features.cache, [(0, features.read, n)]))
            states.append(features.states())
            tokens += view.ids[len(view.ids) - n :]
            features.settle(n)
        out = self.net(torch.cat(states), torch.tensor(tokens, device=self.net.device), Beside(parts))
        ends = torch.tensor([len(s) for s in states]).cumsum(0) - 1
        last = out[ends.to(out.device)]
        self._states = {view.ticket: row for view, row in zip(views, last.split(1), strict=True)}
        return list(self.net.head(last).float().cpu().split(1))

    def _step(self, plants: Sequence[Plant]) -> list[Tensor]:
        """Continue from the newest nodes of each plant; (nodes, V) logits behind them."""
        parts, states, tokens, sizes = [], [], [], []
        for plant in plants:
            ticket, nodes = plant.view.ticket, plant.newest
            features = self._features[ticket]
            assert features.cache is not None
            parts.append(TreeCached(features.cache, features.read, plant.parents, first=nodes[0]))
            states.append(self._states[ticket][[plant.parents[node] + 1 for node in nodes]])
            tokens += [plant.ids[node] for node in nodes]
            sizes.append(len(nodes))
        out = self.net(torch.cat(states), torch.tensor(tokens, device=self.net.device), Beside(parts))
        for plant, rows in zip(plants, out.split(sizes), strict=True):
            self._states[plant.view.ticket] = torch.cat((self._states[plant.view.ticket], rows))
        return list(self.net.head(out).float().cpu().split(sizes))
