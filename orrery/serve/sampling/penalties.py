"""What changes even the greedy choice: bias, penalties for what was said already, and words that must not be said.

Pure functions on logits, and on the counts or the order of the ids before them. `penalized` applies them in this order: bias,
repetition, presence and frequency, DRY, bad words.

n, V tokens looked at, vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orrery.kit.lm import Sampling

_LARGEST_GROWTH = 1e20
"""Where DRY's base^n stops to grow: float32 has to hold what comes of it."""


def penalized(
    logits: Tensor, sampling: Sampling, *, before: Tensor, made: Tensor, ids: Sequence[int] = ()
) -> Tensor:
    """Bias and penalties, (V,) -> (V,).

    Args:
        before, made: (V,) int, how often each token stands in the prompt and in what was generated.
        ids: prompt and answer so far, in order: what DRY and bad words look at.
    """
    s = sampling
    logits = logit_bias(logits, s.logit_bias)
    logits = repetition_penalty(logits, (before + made) > 0, s.repetition_penalty)
    logits = count_penalties(logits, made, presence=s.presence_penalty, frequency=s.frequency_penalty)
    if s.dry_multiplier:
        logits = subtract(logits, dry_penalties(np.asarray(ids, dtype=np.int64), s))
    return forbid(logits, BadWords(s.bad_words).ends(ids))


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of tokens already seen, so that both fall when penalty is above 1
    (Keskar et al. 2019, CTRL, arXiv:1909.05858)."""
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def count_penalties(logits: Tensor, made: Tensor, *, presence: float, frequency: float) -> Tensor:
    """logits - presence * [made > 0] - frequency * made, over generated tokens alone."""
    if presence == 0 and frequency == 0:
        return logits
    return logits - presence * (made > 0) - frequency * made


def logit_bias(logits: Tensor, bias: dict[int, float]) -> Tensor:
    """Add to the logits of named ids; -inf forbids a token."""
    if not bias:
        return logits
    ids = torch.tensor(list(bias), device=logits.device)
    values = torch.tensor(list(bias.values()), dtype=logits.dtype, device=logits.device)
    return logits.index_add(0, ids, values)


def dry_penalties(ids: NDArray[np.int64], sampling: Sampling) -> dict[int, float]:
    """Don't repeat yourself: a token that would lengthen a repetition of n tokens to n + 1 loses
    multiplier * base^(n - allowed_length), if n is at least allowed_length (P. E. Weidmann 2024).

    Returns:
        What each such token loses.
    """
    s = sampling
    grows = math.log(s.dry_base)
    longest = s.dry_allowed_length + (int(math.log(_LARGEST_GROWTH) / grows) if grows > 0 else 0)
    lengths = repeated_lengths(ids, frozenset(s.dry_breakers), longest)
    return {
        token: s.dry_multiplier * s.dry_base ** (n - s.dry_allowed_length)
        for token, n in lengths.items()
        if n >= s.dry_allowed_length
    }


def repeated_lengths(ids: NDArray[np.int64], breakers: Collection[int], longest: int) -> dict[int, int]:
    """By token that followed what stands at the end of `ids` somewhere before: how many tokens agree there, at most `longest`.

    No agreement runs over a breaker, and a breaker itself lengthens nothing.
    """
    lengths: dict[int, int] = {}
    if len(ids) < 2 or int(ids[-1]) in breakers:
        return lengths
    places = np.flatnonzero(ids[:-1] == ids[-1])  # where the last `n` ids stood before: their last place
    n = 1
    while len(places):
        lengths |= dict.fromkeys(np.unique(ids[places + 1]).tolist(), n)
        n += 1
        if n > min(longest, len(ids)) or int(ids[-n]) in breakers:
            break
        places = places[places >= n - 1]
        places = places[ids[places - n + 1] == ids[-n]]
    return {token: n for token, n in lengths.items() if token not in breakers}


class BadWords:
    """Sequences of ids of which none may be completed: the last id of one is forbidden where the others just stood."""

    def __init__(self, words: Collection[Sequence[int]]) -> None:
        self.always = [word[0] for word in words if len(word) == 1]
        self.after: dict[int, list[Sequence[int]]] = {}  # by the id before the last
        for word in words:
            if len(word) > 1:
                self.after.setdefault(word[-2], []).append(word)

    def __bool__(self) -> bool:
        return bool(self.always or self.after)

    def ends(self, ids: Sequence[int]) -> list[int]:
        """The ids that are forbidden after `ids`."""
        near = self.after.get(ids[-1], ()) if len(ids) else ()
        met = [
            word[-1]
            for word in near
            if len(word) <= len(ids) + 1 and tuple(ids[len(ids) - len(word) + 1 :]) == tuple(word[:-1])
        ]
        return self.always + met


def subtract(logits: Tensor, amounts: dict[int, float]) -> Tensor:
    """Take amounts from the logits of named ids, those within (n,) that is."""
    return logit_bias(logits, {i: -amount for i, amount in amounts.items() if i < len(logits)})


def forbid(logits: Tensor, ids: Sequence[int]) -> Tensor:
    """-inf at `ids`, those within (n,) that is."""
    inside = [i for i in ids if i < len(logits)]
    return logits.index_fill(0, torch.tensor(inside), -math.inf) if inside else logits
