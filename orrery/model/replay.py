"""Decoding by replay: a pass recorded once, then run without Python between its operations (`model.lowbit.tape`). Where a pass cannot
be recorded, the modules run.

    step = Replay(model, cache, rows=[0])
    logits = step([token])              # (1, V); the next call writes over it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orrery.model.cache import Cached, KVCache
from orrery.model.decoder import Decoder
from orrery.model.lowbit.attention import available
from orrery.model.lowbit.tape import NotRecordable, Tape


class Recorded:
    """A computation over a model that always reads and writes the same memory.

    Whoever attaches hooks sees every pass: with a hook anywhere in the model, the modules run.
    """

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.forget()

    def forget(self) -> None:
        """Record again at the next call: layers of the model are others now."""
        self._surgery = len(self.model.surgery)
        self._hooks = [h for m in self.model.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
        self._able = self.model.native and available()
        self._tape: Tape | None = None
        self._result: Tensor | None = None

    @property
    def done(self) -> bool:
        """Whether calls are replays."""
        return self._tape is not None

    def __call__(self, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute()` returns, which must be the same computation every time; a replay writes over the last result."""
        if self._surgery != len(self.model.surgery):
            self.forget()
        if not self._able or any(self._hooks):
            return compute()
        if self._tape is None or self._result is None:
            tape = Tape()
            try:
                with tape.record():
                    self._result = compute()
            except NotRecordable:
                self._able = False
                return compute()
            self._tape = tape
        else:
            self._tape.replay()
        return self._result


class Replay:
    """The decode step of rows `rows` of a cache: each call reads one token more of each row."""

    def __init__(self, model: Decoder, cache: KVCache, rows: Sequence[int]) -> None:
        self.model, self.cache, self.rows = model, cache, list(rows)
        self._tokens = torch.zeros(len(self.rows), dtype=torch.int64, device=cache.device)
        self._positions = torch.zeros_like(self._tokens)
        self._pass = Recorded(model)

    @property
    def recorded(self) -> bool:
        """Whether calls are replays."""
        return self._pass.done

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """(rows, V) logits of what follows `tokens`, one for each row. They are good until the next call.

        Raises:
            OrreryError: a row is full.
        """
        ctx = Cached(self.cache, [(row, self.cache.lengths[row], 1) for row in self.rows])
        self._tokens.copy_(torch.tensor(tokens))
        self._positions.copy_(ctx.positions)
        ctx.positions = self._positions
        return self._pass(lambda: self.model.head(self.model(self._tokens, ctx)))
