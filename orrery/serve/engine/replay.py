"""The engine's decode steps by replay: one recorded pass for each number of sequences (`model.replay`)."""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.decoder import Decoder
from orrery.model.replay import Recorded
from orrery.serve.engine.paged import Paged, TableRows
from orrery.serve.engine.store import PagedStore


class Decodes:
    """Passes of one token each of some sequences, whose tables stay where they are in memory."""

    def __init__(self, model: Decoder, store: PagedStore, rows: TableRows) -> None:
        self.model, self.store, self.rows = model, store, rows
        self._passes: dict[int, tuple[Recorded, list[Tensor]]] = {}

    def __call__(self, tokens: Tensor, positions: Tensor, owner: Tensor) -> Tensor:
        """tokens (B,), positions (B,) int64, owner (B,) int32 rows of the tables -> (B, d) hidden states, good until the next call."""
        given = (tokens, positions, owner)
        if len(tokens) not in self._passes:
            self._passes[len(tokens)] = Recorded(self.model), [torch.empty_like(x) for x in given]
        run, held = self._passes[len(tokens)]
        for mine, new in zip(held, given, strict=True):
            mine.copy_(new)
        ctx = Paged.singles(self.store, self.rows, *held[1:])
        return run(lambda: self.model(held[0], ctx))

    def forget(self) -> None:
        """The model's layers are others now."""
        self._passes.clear()
