"""Beam search: keep the `width` likeliest unfinished continuations, and of the finished ones the best by score.

    score(y) = log p(y | x) / lp(y),   lp(y) = ((5 + |y|) / 6) ^ alpha        Wu et al. 2016, arXiv:1609.08144, eq. 14

alpha 0 compares plain log-probabilities (and favours short texts), 1 nearly the mean per token. With a width of V^n
the search over n tokens is exhaustive. Ties break by the earlier beam, then by the smaller id.

B live beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A continuation: its ids, log p of each, and whether it ended of itself (rather than at the length limit)."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finished: bool = False

    @property
    def logprob(self) -> float:
        return sum(self.logprobs)

    def score(self, length_penalty: float) -> float:
        return self.logprob / gnmt_length(len(self.ids), length_penalty)


def gnmt_length(length: int, alpha: float) -> float:
    """((5 + length) / 6) ^ alpha."""
    return ((5 + length) / 6) ** alpha


def beam_search(
    first: Tensor,
    step: Callable[[Sequence[int], Sequence[int]], Tensor],
    *,
    width: int,
    max_tokens: int,
    ended: Callable[[tuple[int, ...]], bool],
    length_penalty: float = 1.0,
) -> list[Beam]:
    """The best continuations, best first; at most `width`.

    Args:
        first: (V,) log-probabilities of the first token.
        step: given, for each live beam, which beam of the last step it continues and the token it added, the
            (B, V) log-probabilities of what comes next.
        ended: whether these ids are a finished text.

    Raises:
        OrreryError: a width or max_tokens below 1, a negative length penalty.
    """
    if width < 1 or max_tokens < 1 or length_penalty < 0:
        raise OrreryError(
            f"beam search needs a width and max_tokens of 1 or more and a length penalty of 0 or more, "
            f"not {width}, {max_tokens} and {length_penalty}"
        )
    live, done = [Beam()], []
    logprobs = first[None]
    for length in range(1, max_tokens + 1):
        live, parents, finished = _extend(live, logprobs, width, ended)
        done = _best([*done, *finished], width, length_penalty)
        if not live or length == max_tokens or _settled(live, done, width, max_tokens, length_penalty):
            break
        logprobs = step(parents, [beam.ids[-1] for beam in live])
    return _best([*done, *live] if length == max_tokens else done, width, length_penalty)


def _extend(
    live: list[Beam], logprobs: Tensor, width: int, ended: Callable[[tuple[int, ...]], bool]
) -> tuple[list[Beam], list[int], list[Beam]]:
    """Every live beam by every token, likeliest first, until `width` unfinished ones are found: (live, parents, finished).

    A finished one counts only when it stands among the `width` likeliest, so that a search does not end by beams
    that greedy decoding would never have looked at.
    """
    vocab_size = logprobs.shape[1]
    so_far = torch.tensor([beam.logprob for beam in live], dtype=torch.float64)
    total = (so_far[:, None] + logprobs.double().cpu()).flatten()
    order = total.sort(descending=True, stable=True).indices
    kept: list[Beam] = []
    parents: list[int] = []
    finished: list[Beam] = []
    for rank in range(len(order)):
        place = int(order[rank])
        if len(kept) == width or total[place] == -torch.inf:
            break
        parent, token = divmod(place, vocab_size)
        ids = (*live[parent].ids, token)
        over = ended(ids)
        beam = Beam(ids=ids, logprobs=(*live[parent].logprobs, float(logprobs[parent, token])), finished=over)
        if not over:
            kept.append(beam)
            parents.append(parent)
        elif rank < width:
            finished.append(beam)
    return kept, parents, finished


def _best(beams: list[Beam], width: int, length_penalty: float) -> list[Beam]:
    return sorted(beams, key=lambda beam: -beam.score(length_penalty))[:width]


def _settled(live: list[Beam], done: list[Beam], width: int, max_tokens: int, length_penalty: float) -> bool:
    """No live beam can still enter the result: its log-probability only falls, so its score is at most this bound."""
    bound = max(beam.logprob for beam in live) / gnmt_length(max_tokens, length_penalty)
    return len(done) == width and done[-1].score(length_penalty) >= bound
