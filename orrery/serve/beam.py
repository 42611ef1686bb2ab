"""Beam search: keep the `width` likeliest unfinished continuations, and of the finished ones the best by score.

    score(y) = log p(y | x) / lp(y),   lp(y) = ((5 + |y|) / 6) ^ alpha        Wu et al. 2016, arXiv:1609.08144, eq. 14

alpha 0 compares plain log-probabilities (and favours short texts), 1 nearly the mean per token. With a width of V^n
the search over n tokens is exhaustive. Ties break by the earlier beam, then by the smaller id.

B live beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.serve.sampling import largest


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
    search = BeamSearch(width=width, max_tokens=max_tokens, ended=ended, length_penalty=length_penalty)
    logprobs = first[None]
    while (move := search.advance(logprobs)) is not None:
        logprobs = step(*move)
    return search.best


class BeamSearch:
    """The same a step at a time, for who has other work between the steps. `best`: what it found, best first, when it is over.

    Raises:
        OrreryError: a width or max_tokens below 1, a negative length penalty.
    """

    def __init__(
        self,
        *,
        width: int,
        max_tokens: int,
        ended: Callable[[tuple[int, ...]], bool],
        length_penalty: float = 1.0,
    ) -> None:
        if width < 1 or max_tokens < 1 or length_penalty < 0:
            raise OrreryError(
                f"beam search needs a width and max_tokens of 1 or more and a length penalty of 0 or more, "
                f"not {width}, {max_tokens} and {length_penalty}"
            )
        self.width, self.max_tokens, self.ended, self.length_penalty = (
            width,
            max_tokens,
            ended,
            length_penalty,
        )
        self.live: list[Beam] = [Beam()]
        self.best: list[Beam] = []
        self._length = 0

    def advance(self, logprobs: Tensor) -> tuple[list[int], list[int]] | None:
        """(B, V) log-probabilities of what follows each live beam -> which of them each new one continues, and its new token; None
        when the search is over."""
        self._length += 1
        self.live, parents, finished = _extend(self.live, logprobs, self.width, self.ended)
        done = _best([*self.best, *finished], self.width, self.length_penalty)
        last = self._length == self.max_tokens
        if last:
            done = _best([*done, *self.live], self.width, self.length_penalty)
        self.best = done
        if (
            not self.live
            or last
            or _settled(self.live, done, self.width, self.max_tokens, self.length_penalty)
        ):
            return None
        return parents, [beam.ids[-1] for beam in self.live]


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
    kept: list[Beam] = []
    parents: list[int] = []
    finished: list[Beam] = []
    for rank, place in enumerate(_falling(total)):
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


def _falling(values: Tensor) -> Iterator[int]:
    """Places of the values, largest first, of equals the smaller place; sorted only as far as they are asked for."""
    known, n = 0, 64
    while known < len(values):
        places = largest(values, n).tolist()
        yield from places[known:]
        known, n = len(places), 8 * n


def _best(beams: list[Beam], width: int, length_penalty: float) -> list[Beam]:
    return sorted(beams, key=lambda beam: -beam.score(length_penalty))[:width]


def _settled(live: list[Beam], done: list[Beam], width: int, max_tokens: int, length_penalty: float) -> bool:
    """No live beam can still enter the result: its log-probability only falls, so its score is at most this bound."""
    bound = max(beam.logprob for beam in live) / gnmt_length(max_tokens, length_penalty)
    return len(done) == width and done[-1].score(length_penalty) >= bound
