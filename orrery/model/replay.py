"""Decoding by replay: a pass of one token for each of some rows of a cache, recorded once, then run without Python between its
operations (`model.lowbit.tape`). Where a pass cannot be recorded, the modules run.

    step = Replay(model, cache, rows=[0])
    logits = step([token])              # (1, V); the next call writes over it
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.lowbit.attention import available
from orrery.model.lowbit.tape import NotRecordable, Tape


class Replay:
    """The decode step of rows `rows` of a cache: each call reads one token more of each row.

    Whoever attaches hooks sees every pass: with a hook anywhere in the model, the modules run.
    """

    def __init__(self, model: Decoder, cache: KVCache, rows: Sequence[int]) -> None:
        self.model, self.cache, self.rows = model, cache, list(rows)
        self._modules = tuple(model.modules())
        self._tokens = torch.zeros(len(self.rows), dtype=torch.int64, device=cache.device)
        self._positions = torch.zeros_like(self._tokens)
        self._logits = self._tokens
        self._tape: Tape | None = None
        self._recordable = model.native and available()

    @property
    def recorded(self) -> bool:
        """Whether calls are replays."""
        return self._tape is not None

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """(rows, V) logits of what follows `tokens`, one for each row. They are good until the next call.

        Raises:
            OrreryError: a row is full.
        """
        starts = [self.cache.lengths[row] for row in self.rows]
        ctx = Cached(self.cache, [(row, start, 1) for row, start in zip(self.rows, starts, strict=True)])
        if not self._recordable or hooked(self._modules):
            ids = torch.tensor(tokens, device=self.cache.device)
            return self.model.head(self.model(ids, ctx))
        self._tokens.copy_(torch.tensor(tokens))
        self._positions.copy_(ctx.positions)
        if self._tape is None:
            return self._record(ctx)
        self._tape.replay()
        return self._logits

    def _record(self, ctx: Cached) -> Tensor:
        ctx.positions = self._positions
        tape = Tape()
        try:
            with tape.record():
                self._logits = self.model.head(self.model(self._tokens, ctx))
        except NotRecordable:
            self._recordable = False
            return self.model.head(self.model(self._tokens, ctx))
        self._tape = tape
        return self._logits


def hooked(modules: Sequence[nn.Module]) -> bool:
    """Whether anybody listens in."""
    return any(m._forward_hooks or m._forward_pre_hooks for m in modules)
