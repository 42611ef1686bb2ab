"""Beam search over forks: every live beam is a sequence of its own, and all beams of a request wait for each other.

A beam that goes on twice is forked, one that does not go on gives its blocks back; they share the prompt's blocks and whatever else
they have in common. What is searched is `serve.beam`.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from orrery.kit.lm import Completion
from orrery.serve.beam import BeamSearch
from orrery.serve.engine.memory import Memory
from orrery.serve.engine.sequence import Sequence
from orrery.serve.generate import BeamTexts


class Beams:
    """The search of one request.

    Attributes:
        live: a sequence for each live beam, in the order of the search.
        rows: by ticket, (V,) log-probabilities of what follows; the search goes on when every live beam has one.
    """

    def __init__(self, search: BeamSearch, texts: BeamTexts, first: Sequence) -> None:
        self.search, self.texts = search, texts
        self.live = [first]
        self.rows: dict[int, Tensor] = {}

    def slots(self, sequence: Sequence) -> int:
        """How many sequences it may become at once; the first beam stands for those that are not live now."""
        return 1 + (self.search.width - len(self.live) if sequence is self.live[0] else 0)

    def take(self, sequence: Sequence, logits: Tensor) -> None:
        """(V,) logits behind one of the beams."""
        self.rows[sequence.ticket] = logits.log_softmax(-1)

    @property
    def ready(self) -> bool:
        """Whether all have come."""
        return len(self.rows) == len(self.live)

    def advance(
        self, memory: Memory, next_ticket: Callable[[], int], known: int
    ) -> tuple[list[Sequence], list[Sequence]] | None:
        """(new sequences, those that are over) with the next token of each live beam; None when the search is over.

        `known`: only ids below it are words.
        """
        move = self.search.advance(torch.stack([self.rows[s.ticket][:known] for s in self.live]))
        self.rows = {}
        if move is None:
            return None
        before, first_of = self.live, {}
        self.live, forks = [], []
        over = [sequence for i, sequence in enumerate(before) if i not in move[0]]
        for sequence in over:
            memory.drop(sequence)
        for i, parent in enumerate(move[0]):
            source = before[parent]
            if first_of.setdefault(parent, i) == i:
                self.live.append(source)
                continue
            twin = replace(source, ticket=next_ticket(), ids=list(source.ids))
            memory.fork(source, twin)
            forks.append(twin)
            self.live.append(twin)
        for sequence, token in zip(self.live, move[1], strict=True):
            sequence.ids.append(token)
        return forks, over

    @property
    def completion(self) -> Completion:
        """What was found."""
        return self.texts.completion(self.search.best)
