"""The words of a corpus and how often each occurs: ids, the noise words are drawn from, and which words to thin out.

vocabulary = count_words(sentences, min_count=5)        # most frequent first
ids = vocabulary.encode(sentences)                      # words left out of the vocabulary disappear
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.kit.errors import OrreryError

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Vocabulary:
    """`words[i]` occurs `counts[i]` times; i is its id. Most frequent first, equal counts in alphabetical order."""

    words: tuple[str, ...]
    counts: Ids

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """The id of each word."""
        return {word: i for i, word in enumerate(self.words)}

    def encode(self, sentences: Iterable[Iterable[str]], *, unknown: int | None = None) -> list[Ids]:
        """One array of ids a sentence. Words outside the vocabulary are dropped, or become `unknown`."""
        encoded = []
        for sentence in sentences:
            found = (self.ids.get(word, unknown) for word in sentence)
            encoded.append(np.array([i for i in found if i is not None], dtype=np.int64))
        return encoded

    def noise(self, power: float = 0.75) -> Floats:
        r"""(V,) the distribution negative words are drawn from, $c(w)^{3/4} / \sum c^{3/4}$ (Mikolov et al. 2013b, 2.2)."""
        weight = self.counts.astype(np.float64) ** power
        return weight / weight.sum()

    def keep(self, threshold: float) -> Floats:
        r"""(V,) the chance that an occurrence stays, $\min(1, \sqrt{t / f(w)})$, f a share (Mikolov et al. 2013b, 2.3)."""
        share = self.counts / self.counts.sum()
        return np.minimum(1.0, np.sqrt(threshold / share))


def count_words(sentences: Iterable[Iterable[str]], *, min_count: int = 1) -> Vocabulary:
    """The words that occur at least `min_count` times.

    Raises:
        OrreryError: none does.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
    if not kept:
        raise OrreryError(
            f"none of the {len(counts)} words occurs {min_count} times; give more text or a lower min_count"
        )
    return Vocabulary(tuple(word for _, word in kept), np.array([-n for n, _ in kept], dtype=np.int64))
