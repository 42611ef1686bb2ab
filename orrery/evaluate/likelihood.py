"""Log-probabilities of continuations, each shared beginning computed once.

    scorer = Continuations(model)
    scorer.score([(context, yes), (context, no)])       # ids; the context is read once, and not again by the next call

Requests are sorted, so that those with a common prefix follow each other; of every sequence only what the one before did not have is
computed (`branches.py`). The last token of a continuation is never read: nothing is asked of what follows it. So the four choices " A" .. " D"
of a question cost one reading of the question, and the examples in front of a hundred questions are read once. The line of tokens
that was read last stays in memory for the next call.

T tokens of a pass, V vocabulary, d model width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orrery.evaluate.branches import Branch, Branches, Slots
from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.model.packed import Packed
from orrery.serve.mode import evaluating
from orrery.serve.windows import check_ids

Ids = NDArray[np.int64]
LOGITS = 1 << 25
"""Logits that exist at once: 128 rows of a vocabulary of 262,144."""


@dataclass(frozen=True)
class Likelihood:
    """log p of a continuation in nats, token by token; greedy: whether each token was the likeliest in its place."""

    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def logprob(self) -> float:
        """log p(continuation | context), nats."""
        return float(np.sum(self.logprobs, dtype=np.float64))


@dataclass(frozen=True)
class Stretch:
    """Tokens ids[start:end] to be read behind ids[:start]."""

    ids: Ids
    start: int
    end: int


class Continuations:
    """Scores continuations under one model, whose weights must stay as they are between calls.

    Args:
        batch_tokens: new tokens read in one pass of the model.
        share: whether beginnings are shared; None: where the model can (not with recurrent states, nor where positions turn by the
            length of the text).

    Attributes:
        tokens: how many tokens were read so far. asked: how many there would have been without sharing.
    """

    def __init__(self, model: Decoder, *, batch_tokens: int = 2048, share: bool | None = None) -> None:
        able = not model.state_spec() and not model.turns_by_length
        self.model, self.batch_tokens = model, batch_tokens
        self.share = able if share is None else share and able
        self.tokens = self.asked = 0
        self._slots = Slots()
        self._line = np.empty(0, np.int64)  # ids of the last line read
        self._where = np.empty(0, np.int64)  # their slots

    @torch.inference_mode()
    def score(self, requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Likelihood]:
        """One likelihood for each (context, continuation), both ids and neither empty.

        Raises:
            OrreryError: an empty part, an id outside the vocabulary, or more tokens than the model's context holds.
        """
        if not requests:
            return []
        whole = [np.asarray([*context, *continuation], dtype=np.int64) for context, continuation in requests]
        first = np.array([len(context) - 1 for context, _ in requests])
        for ids, at in zip(whole, first, strict=True):
            check_ids(ids, self.model.cfg.vocab_size)
            if at < 0 or at == len(ids) - 1:
                raise OrreryError("a continuation and what stands before it need at least one token each")
            if len(ids) - 1 > self.model.cfg.max_positions:
                raise OrreryError(
                    f"{len(ids) - 1} tokens were given; this model looks at {self.model.cfg.max_positions}"
                )
        stretches, nodes = self._plan([ids[:-1] for ids in whole], first)
        asked = np.concatenate(nodes)
        targets = np.concatenate([ids[at + 1 :] for ids, at in zip(whole, first, strict=True)])
        order = np.argsort(asked, kind="stable")
        logprobs, likeliest = np.empty(len(asked)), np.empty(len(asked), dtype=bool)
        done = 0
        with evaluating(self.model):
            for batch in self._passes(stretches):
                hidden = self._read(batch)
                mine = order[
                    np.searchsorted(asked[order], done) : np.searchsorted(asked[order], done + len(hidden))
                ]
                logprobs[mine], likeliest[mine] = self._ask(hidden, asked[mine] - done, targets[mine])
                done += len(hidden)
        self.tokens += done
        self.asked += sum(len(ids) - 1 for ids in whole)
        cuts = np.cumsum([len(n) for n in nodes])[:-1]
        return [
            Likelihood(tuple(part.tolist()), bool(best.all()))
            for part, best in zip(np.split(logprobs, cuts), np.split(likeliest, cuts), strict=True)
        ]

    # --- what is read

    def _plan(self, inputs: list[Ids], first: NDArray[np.int64]) -> tuple[list[Stretch], list[Ids]]:
        """What to read, in order; and for each request the numbers, in that order, of the tokens that its answer stands behind."""
        order = sorted(range(len(inputs)), key=lambda i: inputs[i].astype(">i8").tobytes())
        stretches: list[Stretch] = []
        nodes: list[Ids] = [np.empty(0, np.int64)] * len(inputs)
        # What an earlier call read has no hidden states any more: it can stand before what is asked about, no more.
        before = self._line[: int(first.min())] if self.share else self._line[:0]
        line, made = np.full(len(before), -1), 0
        for i in order:
            ids = inputs[i]
            common = _common(before, ids)
            if common < len(ids):
                start = common if self.share else 0
                line = np.concatenate([line[:start], np.arange(made, made + len(ids) - start)])
                stretches.append(Stretch(ids, start, len(ids)))
                made, before = made + len(ids) - start, ids
            nodes[i] = line[first[i] : len(ids)]
        return stretches, nodes

    def _passes(self, stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
        """Stretches that are read together; one too long for a pass is cut."""
        batch: list[Stretch] = []
        room = self.batch_tokens
        for stretch in stretches:
            start = stretch.start
            while start < stretch.end:
                if batch and stretch.end - start > room:
                    yield batch
                    batch, room = [], self.batch_tokens
                end = min(stretch.end, start + room) if self.share else stretch.end
                batch.append(Stretch(stretch.ids, start, end))
                start, room = end, room - (end - start)
        if batch:
            yield batch

    def _read(self, batch: list[Stretch]) -> Tensor:
        """(T, d) hidden states of the new tokens."""
        device = self.model.device
        tokens = torch.from_numpy(np.concatenate([s.ids[s.start : s.end] for s in batch])).to(device)
        if not self.share:
            return self.model(tokens, Packed([s.end for s in batch], device=device))
        kept = self._where[: batch[0].start]
        self._slots.reserve(len(kept) + len(tokens))
        free = np.ones(self._slots.size, dtype=bool)
        free[kept] = False
        new = np.flatnonzero(free)[: len(tokens)]
        tables = np.zeros((len(batch), max(s.end for s in batch)), dtype=np.int32)
        where, used = kept, 0
        for row, s in enumerate(batch):
            where = np.concatenate([where[: s.start], new[used : used + s.end - s.start]])
            tables[row, : s.end] = where
            used += s.end - s.start
        branches = [Branch(s.start, s.end - s.start) for s in batch]
        hidden = self.model(tokens, Branches(self._slots, torch.from_numpy(tables).to(device), branches))
        self._line, self._where = batch[-1].ids[: batch[-1].end], where
        return hidden

    # --- what is asked

    def _ask(self, hidden: Tensor, rows: Ids, targets: Ids) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """log p(target | row) and whether the target is the likeliest, for sorted rows of `hidden`."""
        distinct, owner = np.unique(rows, return_inverse=True)
        each = max(LOGITS // self.model.cfg.vocab_size, 16)
        logprobs, likeliest = np.empty(len(rows)), np.empty(len(rows), dtype=bool)
        for begin in range(0, len(distinct), each):
            logits = self.model.head(hidden[torch.from_numpy(distinct[begin : begin + each])]).float()
            low, high = np.searchsorted(owner, [begin, begin + each])
            at = torch.from_numpy(owner[low:high] - begin).to(logits.device)
            wanted = torch.from_numpy(targets[low:high]).to(logits.device)
            chosen = logits[at, wanted]
            top, best = logits.max(-1)
            total = logits.sub_(top[:, None]).exp_().sum(-1).log_().add_(top)
            logprobs[low:high] = (chosen - total[at]).double().cpu().numpy()
            likeliest[low:high] = (best[at] == wanted).cpu().numpy()
        return logprobs, likeliest


def _common(a: Ids, b: Ids) -> int:
    """How many ids both begin with."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n
