"""A smaller model of the same tokenizer drafts (Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023).

It keeps a cache of its own for every sequence. What it read and the model rejected is overwritten; after a draft of which
all was kept, it still has to read its own last token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.cache import Cached, KVCache
from orrery.serve.speculate.beside import Beside
from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView
from orrery.serve.speculate.grow import Plant, grow
from orrery.serve.speculate.tree_cache import TreeCached, roomier

if TYPE_CHECKING:
    from orrery.serve.lm import LM

SPARE = 256
"""Tokens of room that a new cache has beyond what it needs at once."""


@dataclass
class _Reader:
    """What the draft model has read of one sequence: `ids`, of which the first `certain` are the sequence's own."""

    cache: KVCache
    ids: list[int] = field(default_factory=list)
    certain: int = 0

    def agreed(self, ids: Sequence[int]) -> int:
        """How many of the tokens read are those of `ids`, without its last, which is to be read in any case."""
        n = min(len(self.ids), len(ids) - 1)
        return next((i for i in range(self.certain, n) if self.ids[i] != ids[i]), n)


class DraftModelDrafter:
    """Drafts with `draft` for `target`.

    Args:
        branches: children of a node, depth by depth; () is a chain as long as the limit.

    Raises:
        OrreryError: the two do not share a tokenizer, or the draft model has recurrent layers, whose state cannot go back.
    """

    reads_hidden = False

    def __init__(self, draft: LM, target: LM, *, branches: Sequence[int] = ()) -> None:
        if draft.tokenizer.fingerprint != target.tokenizer.fingerprint:
            raise OrreryError(
                "the draft model has another tokenizer than the model it drafts for, so its ids mean other texts; choose a "
                "smaller model of the same family"
            )
        if draft.model.state_spec():
            raise OrreryError(
                "the draft model has recurrent layers, whose state cannot take rejected tokens back; choose one with attention"
            )
        self.model, self.branches = draft.model, tuple(branches)
        self._readers: dict[int, _Reader] = {}

    @torch.inference_mode()
    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        shape = self.branches or (1,) * limit
        longest = self.model.cfg.max_positions
        able = [v for v in views if min(limit, v.room) > 0 and len(v.ids) + len(shape) <= longest]
        if not able:
            return [NOTHING] * len(views)
        plants = [Plant(view, shape, limit) for view in able]
        drafts = dict(
            zip((v.ticket for v in able), grow(plants, self._read(able, limit), self._step), strict=True)
        )
        for plant in plants:
            if all(b == 1 for b in plant.branches):
                reader = self._readers[plant.view.ticket]
                reader.ids += plant.ids[:-1]  # the last one was never read
                reader.cache.lengths[0] = len(reader.ids)
        return [drafts.get(view.ticket, NOTHING) for view in views]

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Nothing: the next view shows what came."""

    def forget(self, ticket: int) -> None:
        self._readers.pop(ticket, None)

    def _read(self, views: Sequence[DraftView], limit: int) -> list[Tensor]:
        """Read what is new in each sequence; (1, V) logits after its last token."""
        parts, tokens = [], []
        for view in views:
            n = len(view.ids)
            if view.ticket not in self._readers:
                self._readers[view.ticket] = _Reader(KVCache(self.model, rows=1, capacity=n + limit + SPARE))
            reader = self._readers[view.ticket]
            reader.cache = roomier(reader.cache, self.model, n + limit)
            start = reader.agreed(view.ids)
            start = start if reader.cache.serves(start, n) else 0
            parts.append(Cached(reader.cache, [(0, start, n - start)]))
            tokens += view.ids[start:]
            reader.ids[start:] = view.ids[start:]
            reader.certain = n - 1
        hidden = self.model(torch.tensor(tokens, device=self.model.device), Beside(parts))
        ends = torch.tensor([part.work[0][2] for part in parts]).cumsum(0) - 1
        return list(self.model.head(hidden[ends.to(hidden.device)]).float().cpu().split(1))

    def _step(self, plants: Sequence[Plant]) -> list[Tensor]:
        """Read the newest nodes of each plant; (nodes, V) logits behind them."""
        parts = [
            TreeCached(
                self._readers[plant.view.ticket].cache,
                len(plant.view.ids),
                plant.parents,
                first=plant.newest[0],
            )
            for plant in plants
        ]
        tokens = [plant.ids[node] for plant in plants for node in plant.newest]
        hidden = self.model(torch.tensor(tokens, device=self.model.device), Beside(parts))
        return list(self.model.head(hidden).float().cpu().split([len(plant.newest) for plant in plants]))
