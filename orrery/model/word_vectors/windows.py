"""Which words stand around which: the windows that every word-vector model learns from.

For `the quick brown fox` and a window of 1 the centres and contexts are

    the: quick     quick: the brown     brown: quick fox     fox: brown

CBOW takes a row at a time, skip-gram every pair of it, GloVe counts the pairs. Windows end at the sentence's ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orrery.model.word_vectors.vocabulary import Ids

NONE = -1
"""The id that stands where a window has no word."""


@dataclass(frozen=True)
class Windows:
    """`centres[t]` (T,) and the words around it, `contexts[t]` (T, 2 window): places -window .. -1, 1 .. window."""

    centres: Ids
    contexts: Ids


@dataclass(frozen=True)
class Pairs:
    """`contexts[n]` stands near `centres[n]`, `distance[n]` words away; all (N,)."""

    centres: Ids
    contexts: Ids
    distance: Ids


def windows(
    sentences: Sequence[Ids], *, window: int, generator: np.random.Generator | None = None
) -> Windows:
    """Every word that has a neighbour, in order. With a generator each centre's reach is drawn from 1 .. window.

    The drawn reach makes near words count more than far ones, as in word2vec (Mikolov et al. 2013a, 3.2).
    """
    flat = np.concatenate([*sentences, np.empty(0, np.int64)])
    sentence = np.repeat(np.arange(len(sentences)), [len(s) for s in sentences])
    n = len(flat)
    reach = np.full(n, window) if generator is None else generator.integers(1, window + 1, size=n)
    contexts = np.full((n, 2 * window), NONE, dtype=np.int64)
    for distance in range(1, min(window, n - 1) + 1):
        together = sentence[distance:] == sentence[:-distance]
        right = np.flatnonzero(together & (reach[:-distance] >= distance))
        left = np.flatnonzero(together & (reach[distance:] >= distance)) + distance
        contexts[right, window + distance - 1] = flat[right + distance]
        contexts[left, window - distance] = flat[left - distance]
    used = (contexts != NONE).any(axis=1)
    return Windows(flat[used], contexts[used])


def pairs(sentences: Sequence[Ids], *, window: int, generator: np.random.Generator | None = None) -> Pairs:
    """The windows taken apart into (centre, context) pairs: by centre, then from left to right."""
    found = windows(sentences, window=window, generator=generator)
    row, column = np.nonzero(found.contexts != NONE)
    distance = np.where(column < window, window - column, column - window + 1)
    return Pairs(found.centres[row], found.contexts[row, column], distance)


def preceding(sentences: Sequence[Ids], *, length: int, start: int) -> Windows:
    """Every word with the `length` words before it, (T, length); before a sentence stands `start`."""
    rows = [np.empty((0, length + 1), np.int64)]
    for ids in sentences:
        padded = np.concatenate([np.full(length, start, np.int64), ids])
        if len(ids):
            rows.append(np.lib.stride_tricks.sliding_window_view(padded, length + 1))
    together = np.concatenate(rows)
    return Windows(together[:, -1].copy(), together[:, :-1].copy())
