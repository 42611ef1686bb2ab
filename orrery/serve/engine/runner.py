"""One pass of the model over what a step reads: tokens in, hidden states and logits out, and what requests look at on the way.

T tokens, B sequences, R rows, V vocabulary, d model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Many
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from orrery.model.decoder import Decoder
from orrery.serve.adapters import Adapters
from orrery.serve.engine.memory import Memory
from orrery.serve.engine.paged import Paged, Piece, TableRows
from orrery.serve.engine.replay import Decodes
from orrery.serve.engine.sequence import Sequence
from orrery.serve.engine.store import PagedStore, absorbed, latent_layers
from orrery.serve.mode import evaluating
from orrery.serve.observe import Observer, Watched
from orrery.serve.sampling import read_logprobs
from orrery.serve.speculate.drafter import NOTHING, Draft
from orrery.serve.steer import steered

ROWS = 64
"""Logits of so many tokens at a time: with a large vocabulary a row is a megabyte."""


@dataclass(frozen=True)
class Work:
    """What a step reads of one sequence: its tokens start .. start + n, and drafts behind them.

    Attributes:
        first: the place of its first token in the pass.
        seen: what its request looks at: by `Observe.what`, an entry for each of its last rows in the pass.
    """

    sequence: Sequence
    start: int
    n: int
    draft: Draft = NOTHING
    first: int = 0
    seen: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Tokens in the pass."""
        return self.n + len(self.draft)

    @property
    def whole(self) -> bool:
        """Whether the sequence's last known token is among them, so that a token can be chosen."""
        return self.start + self.n == len(self.sequence.ids)

    @property
    def rows(self) -> range:
        """Places in the pass of the last known token and of the drafts."""
        return range(self.first + self.n - 1, self.first + self.total)

    @property
    def watched(self) -> bool:
        """Whether its request changes or looks at activations."""
        request = self.sequence.request
        return bool(request.observe or request.steering or request.adapter is not None)

    def tokens(self) -> list[int]:
        """What is read."""
        return [*self.sequence.ids[self.start : self.start + self.n], *self.draft.ids]

    def piece(self) -> Piece:
        """The same for the context."""
        sequence = self.sequence
        assert sequence.row is not None
        return Piece(
            row=sequence.row,
            ticket=sequence.ticket,
            start=self.start,
            n=self.total,
            span=len(sequence.ids),
            tree=self.draft.parents or (),
        )

    def entries(self, nodes: Many[int]) -> dict[str, list[Any]]:
        """Of `seen`, those of the known tokens and of the accepted nodes."""
        if not self.draft:
            return self.seen
        rows = [*range(self.n), *(self.n + node for node in nodes)]
        left_out = {what: self.total - len(found) for what, found in self.seen.items()}
        return {
            what: [found[row - left_out[what]] for row in rows if row >= left_out[what]]
            for what, found in self.seen.items()
        }


class Runner:
    """The model, the store it writes to, and the rows of the sequences that run."""

    def __init__(self, model: Decoder, store: PagedStore, rows: TableRows, *, known: int) -> None:
        self.model, self.store, self.rows, self.known = model, store, rows, known
        self.adapters = Adapters.of(model)
        self.latent = latent_layers(model)
        self._recurrent = bool(model.state_spec())
        self._decodes = Decodes(model, store, rows)
        self._patterns = [block.attn.pattern for block in model.blocks if block.attn is not None]  # type: ignore[missing-attribute]

    def read(self, work: Many[Work]) -> Tensor:
        """(T, d) hidden states after the last norm."""
        device = self.store.device
        tokens = torch.tensor([token for item in work for token in item.tokens()], device=device)
        with self._mode():
            if self._plain(work):
                positions = torch.tensor([item.start for item in work], device=device)
                owner = torch.tensor([item.sequence.row for item in work], dtype=torch.int32, device=device)
                return self._decode_hidden(tokens, positions, owner)
            ctx = Paged(self.store, self.rows, [item.piece() for item in work])
            if not any(item.watched for item in work):
                return self.model(tokens, ctx)
            return self._read_watched(tokens, ctx, work)

    def _plain(self, work: Many[Work]) -> bool:
        """One token each, and nothing needs to know which sequence a token is of but for the tables."""
        return (
            not self._recurrent
            and all(item.total == 1 and not item.watched for item in work)
            and not any(pattern._forward_hooks for pattern in self._patterns)
        )

    def _decode_hidden(self, tokens: Tensor, positions: Tensor, owner: Tensor) -> Tensor:
        """One token each of B sequences: tokens (B,), positions (B,) int64, owner (B,) int32 rows of the tables -> (B, d)."""
        return self._decodes(tokens, positions, owner).clone()

    def _read_watched(self, tokens: Tensor, ctx: Paged, work: Many[Work]) -> Tensor:
        """A pass some of whose sequences have adapters, steering, or something to look at."""
        names = [item.sequence.request.adapter for item in work]
        if any(name is not None for name in names):
            ctx.adapters = self.adapters.of_tokens(names, ctx.lengths)
        wishes = {i: item.sequence.vectors for i, item in enumerate(work) if item.sequence.vectors}
        looking = [(i, item) for i, item in enumerate(work) if item.sequence.request.observe]
        watched = [
            Watched(piece=i, prompt=item.sequence.prompt, observe=item.sequence.request.observe, seen=item.sequence.looked)
            for i, item in looking
        ]  # fmt: skip
        observer = Observer(self.model, watched, known=self.known)
        with steered(self.model, ctx, wishes), observer.attached(ctx):
            hidden = self.model(tokens, ctx)
        for (_, item), found in zip(looking, observer.results(), strict=True):
            item.seen.update(found)
        return hidden

    def logits(self, hidden: Tensor, rows: Many[int]) -> Tensor:
        """(R, V) float32 on the CPU: what follows the tokens at `rows` of the pass."""
        with self._mode():
            chosen = hidden if len(rows) == len(hidden) else hidden[list(rows)]
            return self.model.head(chosen).float().cpu()

    def forget(self) -> None:
        """The model's weights are others now: what was recorded with the old ones is of no use."""
        self._decodes.forget()

    def fault(self, sequence: Sequence, memory: Memory) -> str:
        """Why a running sequence cannot go on; empty: it can."""
        if not self.keeps_adapter(sequence):
            return f"the adapter '{sequence.request.adapter}' was removed or changed"
        if memory.damaged(sequence):
            return "what was cached of this request changed in memory by itself; ask again, and have the machine's memory tested"
        return ""

    def keeps_adapter(self, sequence: Sequence) -> bool:
        """Whether its adapter is still the one that it began with: what is cached of it was computed through that."""
        name = sequence.request.adapter
        if name is None:
            return True
        return name in self.adapters.names and self.adapters.fingerprint(name) == sequence.adapter

    def score_prompt(self, item: Work, hidden: Tensor) -> None:
        """Log-probabilities of the prompt's tokens that this piece predicts, each once however often it is read."""
        sequence, found = item.sequence, item.sequence.job.prompt_logprobs
        begin, end = (
            max(item.start, sequence.virtual + len(found)),
            min(item.start + item.n, sequence.prompt - 1),
        )
        for place in range(begin, end, ROWS):
            places = range(place, min(place + ROWS, end))
            rows = self.logits(hidden, [item.first + p - item.start for p in places])
            following = [sequence.ids[p + 1] for p in places]
            found += read_logprobs(rows, following, sequence.request.prompt_logprobs or 0, known=self.known)

    @contextmanager
    def _mode(self) -> Iterator[None]:
        with evaluating(self.model) if self.model.training else nullcontext(), absorbed(self.latent):
            yield
