"""Which corpus a row is drawn from: weights, kept exactly in every block of rows, and nothing to remember.

Rows are numbered through the whole run. Every block of `BLOCK` rows holds each corpus in its share (largest
remainders), in an order drawn from (seed, block). So how many rows of a corpus came before any row is known at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator

BLOCK = 1 << 14


def temperature_weights(sizes: Sequence[float], temperature: float) -> list[float]:
    """Weights proportional to size ** (1 / temperature): 1 keeps the sizes' shares, larger evens them out.

    Source: Devlin 2018 (multilingual BERT, exponent 0.7); Arivazhagan et al. 2019, arXiv:1907.05019, section 4.2.
    """
    if temperature <= 0:
        raise OrreryError(f"the temperature of a mixture must be above 0, not {temperature}")
    scaled = [(size / max(sizes)) ** (1 / temperature) for size in sizes]
    return [value / sum(scaled) for value in scaled]


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers that sum to `total` in proportion to the weights (largest remainders, first wins a tie).

    Raises:
        OrreryError: a weight that is negative or not finite, none above 0, or one too small to get any row.
    """
    array = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(array).all() or (array < 0).any() or array.sum() <= 0:
        raise OrreryError(
            f"the weights of a mixture must be numbers of 0 or more, at least one above 0, not {list(weights)}"
        )
    exact = array / array.sum() * total
    counts = np.floor(exact).astype(np.int64)
    for i in np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]:
        counts[i] += 1
    for weight, count in zip(array, counts, strict=True):
        if weight > 0 and count == 0:
            raise OrreryError(
                f"the weight {weight:g} is under 1/{total} of the mixture and would never be drawn; raise it or use 0"
            )
    return counts.tolist()


class Mixture:
    """Row number -> (corpus, how many rows of that corpus came before)."""

    def __init__(self, weights: Sequence[float], *, seed: int) -> None:
        self.counts = np.array(shares(weights, BLOCK), dtype=np.int64)
        self._seed = seed
        self._block = lru_cache(maxsize=4)(self._make_block)

    def _make_block(self, block: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        corpora = np.repeat(np.arange(len(self.counts)), self.counts)
        corpora = numpy_generator(self._seed, "mixture", block).permutation(corpora)
        before = np.empty(BLOCK, dtype=np.int64)
        for k, count in enumerate(self.counts):
            before[corpora == k] = np.arange(count)
        return corpora, before

    def draw(self, row: int) -> tuple[int, int]:
        """The corpus of a row, and the row's number within that corpus."""
        if len(self.counts) == 1:
            return 0, row
        block, at = divmod(row, BLOCK)
        corpora, before = self._block(block)
        corpus = int(corpora[at])
        return corpus, block * int(self.counts[corpus]) + int(before[at])

    def drawn(self, rows: int) -> list[int]:
        """How many of the first `rows` rows each corpus gave."""
        block, at = divmod(rows, BLOCK)
        corpora = self._block(block)[0][:at]
        return (block * self.counts + np.bincount(corpora, minlength=len(self.counts))).tolist()
