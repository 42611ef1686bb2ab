"""The state of choosing for one sequence: what was said so far, kept so that a token costs no more than its settings need.

    chooser = Chooser(request, vocab=V, known=tokenizer.vocab_size)
    choice = chooser.choose(logits, chooser.position, mask)        # changes nothing
    chooser.push(choice.id)

Greedy is one argmax and one log-softmax; each filter works on what the one before it left, each penalty on the tokens it names.

V rows of the model's head, of which the first `known` are tokens.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.lm import GenerateRequest
from orrery.serve.sampling.draw import draw, greedy, position_uniform
from orrery.serve.sampling.filters import candidates
from orrery.serve.sampling.logprobs import top_logprobs
from orrery.serve.sampling.penalties import (
    BadWords,
    count_penalties,
    dry_penalties,
    forbid,
    repetition_penalty,
    subtract,
)


@dataclass(frozen=True)
class Choice:
    """A token; its log-probability under the model itself, in nats; and the likeliest alternatives', as many as the request
    asks for."""

    id: int
    logprob: float
    top: dict[int, float] = field(default_factory=dict)


class Chooser:
    """Chooses what `sampling.choose` would; contrastive search takes `scores` and `report` alone.

    Args:
        vocab: length of the logits it will see.
        known: only ids below it are chosen: a model may have rows beyond the tokenizer's last id.
    """

    def __init__(self, request: GenerateRequest, vocab: int, known: int) -> None:
        s = self.sampling = request.sampling
        self.request_id, self.vocab, self.known = request.request_id, vocab, min(vocab, known)
        self._alternatives = request.logprobs or 0
        self._ids = array("q", request.ids)
        self._prompt = len(request.ids)
        self._made: dict[int, int] = {}  # how often each token was generated
        bias = {i: b for i, b in s.logit_bias.items() if i < self.known}
        self._biased = torch.tensor(list(bias), dtype=torch.long)
        self._bias = torch.tensor(list(bias.values()), dtype=torch.float32)
        self._bad_words = BadWords(s.bad_words)
        read = np.unique(np.asarray(self._ids, dtype=np.int64)) if s.repetition_penalty != 1 else np.empty(0)
        self._read = torch.from_numpy(read[read < self.known].astype(np.int64))

    @property
    def position(self) -> int:
        """How many tokens stand before the next one."""
        return len(self._ids)

    # --- choosing

    def choose(self, logits: Tensor, position: int, mask: Tensor | None = None) -> Choice:
        """The token at `position`, from the model's logits (V,).

        Args:
            mask: (V,) or (known,) bool, False where a grammar forbids a token; applied before everything else.

        Raises:
            OrreryError: no token is left; contrastive search, which needs more than logits.
        """
        if self.sampling.contrastive_alpha:
            raise OrreryError(
                "contrastive search reads the states of its candidates, which is not done here; use LM.generate, or "
                "contrastive_alpha=0"
            )
        s, scores = self.sampling, self.scores(logits, mask)
        if s.temperature == 0:
            id = greedy(scores)
        else:
            ids, kept = candidates(scores, s, coin=self._coin(position))
            id = int(ids[draw(kept, position_uniform(s.seed, self.request_id, position))])
        return self.report(logits, id)

    def report(self, logits: Tensor, id: int) -> Choice:
        """A token that was decided elsewhere (a grammar left no other), with what is reported of it."""
        logprobs = logits.float().log_softmax(-1)
        return Choice(
            id=id,
            logprob=float(logprobs[id]),
            top=top_logprobs(logprobs[: self.known], self._alternatives),
        )

    def distribution(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """(known,) float64 probabilities with which `choose` takes each token at `position`, over the numbers u; greedy is
        certain of one.

        Raises:
            OrreryError: no token is left.
        """
        scores = self.scores(logits, mask)
        out = torch.zeros(len(scores), dtype=torch.float64)
        if self.sampling.temperature == 0:
            out[greedy(scores)] = 1
            return out
        ids, kept = candidates(scores, self.sampling, coin=self._coin(self.position))
        return out.index_copy_(0, ids, kept.double().softmax(-1))

    def scores(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:
        """(known,) float32: the logits after mask, bias and penalties, before temperature.

        Raises:
            OrreryError: no token is left.
        """
        assert logits.shape == (self.vocab,)
        s, logits = self.sampling, logits[: self.known].float()
        if mask is not None:
            logits = logits.masked_fill(~mask[: self.known], -math.inf)
        if len(self._biased):
            logits = logits.index_add(0, self._biased, self._bias)
        if s.repetition_penalty != 1:
            seen = torch.cat([self._read, _tensor(self._made)])
            lower = repetition_penalty(logits[seen], torch.tensor(True), s.repetition_penalty)
            logits = logits.index_copy(0, seen, lower)
        if self._made and (s.presence_penalty or s.frequency_penalty):
            said, counts = _tensor(self._made), _tensor(self._made.values())
            lower = count_penalties(
                logits[said], counts, presence=s.presence_penalty, frequency=s.frequency_penalty
            )
            logits = logits.index_copy(0, said, lower)
        if s.dry_multiplier:
            logits = subtract(logits, dry_penalties(np.asarray(self._ids), s))
        if self._bad_words:
            logits = forbid(logits, self._bad_words.ends(self._ids))
        if (mask is not None or len(self._biased) or self._bad_words) and logits.max() == -math.inf:
            raise OrreryError(
                "no token is left to choose: together the grammar, logit_bias and bad_words forbid every one; allow more"
            )
        return logits

    # --- what was said

    def push(self, id: int) -> None:
        """The sequence goes on with `id`."""
        self._ids.append(id)
        self._made[id] = self._made.get(id, 0) + 1

    def rollback(self, n: int) -> None:
        """Take the last n pushed tokens back."""
        assert n <= len(self._ids) - self._prompt
        for _ in range(n):
            id = self._ids.pop()
            self._made[id] -= 1
            if not self._made[id]:
                del self._made[id]

    def clone(self) -> Chooser:
        """One that goes its own way from here."""
        other = copy.copy(self)
        other._ids, other._made = self._ids[:], dict(self._made)
        return other

    def _coin(self, position: int) -> float:
        s = self.sampling
        return position_uniform(s.seed, self.request_id, position, "xtc") if s.xtc_probability else 1.0


def _tensor(numbers: Iterable[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.long)
