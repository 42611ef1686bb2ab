r"""N-gram language models on token ids: the baseline that says whether a network learned anything.

    counts = count_ngrams(documents, order=5, vocab_size=4096)
    kneser_ney(counts).logprobs(held_out)

Four ways to share probability with what was never seen, all of them a weight a(w|h) for seen n-grams and a factor
b(h) for what is shorter, computed once:

    interpolated   p(w|h) = a(w|h) + b(h) p(w|h')          Kneser-Ney (Chen & Goodman 1999), Laplace / add-k
    back-off       p(w|h) = a(w|h) if hw was seen,         Katz 1987 (with absolute discounting, Ney et al. 1994);
                            else b(h) p(w|h')              stupid back-off (Brants et al. 2007), not normalised

h' is h without its first token; below the unigram stands the uniform 1/V. At the start of a document h is shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.evaluate.ngram_counts import Ints, Level, NgramCounts, count_ngrams, lay_out
from orrery.kit.errors import OrreryError

Floats = NDArray[np.float64]
Smoothing = Literal["kneser-ney", "laplace", "back-off", "stupid"]
Discount = tuple[float, float, float]
"""What is taken from counts of 1, 2, and 3 or more."""


@dataclass(frozen=True)
class NgramModel:
    """p(token | the tokens before it), by tables over the n-grams of `counts`."""

    counts: NgramCounts
    seen: tuple[Floats, ...]
    """seen[k][r]: a(w|h) of the k-gram hw of rank r."""
    shorter: tuple[Floats, ...]
    """shorter[k][r]: b(h) of the context h of rank r among the (k-1)-grams."""
    interpolated: bool
    unseen_context: float = 1.0
    """b(h) of a context never seen."""
    normalized: bool = True
    discounts: tuple[Discount, ...] = ()
    """By order, from 1: what each order was discounted by."""

    @property
    def order(self) -> int:
        return self.counts.order

    @property
    def vocab_size(self) -> int:
        return self.counts.vocab_size

    def logprobs(self, documents: Sequence[ArrayLike]) -> list[Floats]:
        """Natural log p of every token of every document, each document on its own.

        Raises:
            OrreryError: a token id outside the vocabulary.
        """
        line = lay_out(documents, self.vocab_size)
        ranks, place = self.counts.ranks(line), line.targets
        contexts = [rank[place - 1] for rank in ranks[:-1]]
        p = self._mix(contexts, [rank[place] for rank in ranks], line.depth[place])
        ends = np.cumsum([len(np.asarray(document)) for document in documents])
        return np.split(np.log(p), ends[:-1]) if len(documents) else []

    def next(self, context: ArrayLike) -> Floats:
        """(V,) probabilities of the token after `context`, which begins a document."""
        line = lay_out([context], self.vocab_size)
        ranks, tokens = self.counts.ranks(line), np.arange(self.vocab_size)
        contexts = [np.full(self.vocab_size, rank[-1]) for rank in ranks[:-1]]
        nodes = [tokens] + [
            np.where(context >= 0, level.find(self.counts.key(context, tokens)), -1)
            for context, level in zip(contexts, self.counts.levels[1:], strict=True)
        ]
        return self._mix(contexts, nodes, np.full(self.vocab_size, line.depth[-1] + 1))

    def _mix(self, contexts: list[Ints], nodes: list[Ints], depth: Ints) -> Floats:
        """From the uniform up: contexts[k-1] and nodes[k] are ranks of h and hw; depth is how far into the document."""
        p = np.full(len(depth), 1.0 / self.vocab_size)
        for k in range(1, self.order + 1):
            context, node = contexts[k - 1], nodes[k]
            a = _look_up(self.seen[k], node, missing=0.0)
            b = _look_up(self.shorter[k], context, missing=self.unseen_context)
            mixed = a + b * p if self.interpolated else np.where(a > 0, a, b * p)
            p = np.where(depth >= k - 1, mixed, p)
        return p


def fit_ngram(
    documents: Sequence[ArrayLike], *, order: int, vocab_size: int, smoothing: Smoothing = "kneser-ney"
) -> NgramModel:
    """Count and smooth in one call."""
    counts = count_ngrams(documents, order=order, vocab_size=vocab_size)
    match smoothing:
        case "kneser-ney":
            return kneser_ney(counts)
        case "laplace":
            return add_k(counts)
        case "back-off":
            return back_off(counts)
        case "stupid":
            return stupid_back_off(counts)


def kneser_ney(
    counts: NgramCounts, *, discount: Literal["modified", "absolute"] | float = "modified"
) -> NgramModel:
    """Interpolated Kneser-Ney smoothing (Chen & Goodman 1999, section 3 and equations 17, 26).

    Below the highest order an n-gram counts as often as it has different predecessors, not as often as it was seen
    (n-grams at the start of a document have none and keep their counts). `discount`: "modified" estimates three
    discounts an order, "absolute" one, a number in (0, 1) fixes it.
    """
    seen, shorter, discounts = [np.zeros(1)], [np.zeros(1)], []
    for k, level in enumerate(counts.levels[1:], start=1):
        adjusted = level.count
        if k < counts.order:
            above = counts.levels[k + 1]
            predecessors = np.bincount(above.suffix, minlength=len(level.keys))
            adjusted = np.where(level.starts, level.count, predecessors)
        adjusted = _predictable(adjusted, level, k, counts.vocab_size)
        taken = _discount(adjusted, discount)
        off = np.array([0.0, *taken])[np.minimum(adjusted, 3)]
        total = _by_context(level, adjusted, counts, k)
        seen.append((adjusted - off) / total[level.prefix])
        shorter.append(_leftover(_by_context(level, off, counts, k), total))
        discounts.append(taken)
    return NgramModel(counts, tuple(seen), tuple(shorter), interpolated=True, discounts=tuple(discounts))


def add_k(counts: NgramCounts, *, k: float = 1.0) -> NgramModel:
    """p(w|h) = (c(hw) + k) / (c(h) + k V) with h of full length (shorter only at a document's start); k=1 is Laplace.

    Raises:
        OrreryError: k is not positive, so unseen tokens would have probability zero.
    """
    if k <= 0:
        raise OrreryError(f"add-k smoothing needs k above 0, not {k}; k=1 is Laplace's rule")
    seen, shorter = [np.zeros(1)], [np.zeros(1)]
    share = k * counts.vocab_size
    for n, level in enumerate(counts.levels[1:], start=1):
        used = level.starts | (n == counts.order)  # shorter contexts serve at a document's start alone
        count = np.where(used, _predictable(level.count, level, n, counts.vocab_size), 0)
        total = _by_context(level, count, counts, n)
        seen.append(count / (total + share)[level.prefix])
        shorter.append(share / (total + share))
    return NgramModel(counts, tuple(seen), tuple(shorter), interpolated=True)


def back_off(counts: NgramCounts, *, discount: Literal["absolute"] | float = "absolute") -> NgramModel:
    """Katz back-off with absolute discounting: seen n-grams keep (c - D) / c(h), unseen ones share what was taken.

    b(h) = (1 - sum of a over seen w) / (1 - sum of p(w|h') over the same w), so that it all sums to one.
    """
    seen, shorter, discounts = [np.full(1, 1.0 / counts.vocab_size)], [np.zeros(1)], []
    for k, level in enumerate(counts.levels[1:], start=1):
        count = _predictable(level.count, level, k, counts.vocab_size)
        taken = _discount(count, discount)
        total = _by_context(level, count, counts, k)
        kinds = _by_context(level, count > 0, counts, k)
        off = np.where(kinds == counts.vocab_size, 0.0, taken[0])  # nothing unseen is left: nothing to share
        a = np.where(count > 0, (count - off[level.prefix]) / total[level.prefix], 0.0)
        lower = np.where(count > 0, seen[k - 1][level.suffix], 0.0)
        rest = 1.0 - _by_context(level, lower, counts, k)
        b = _leftover(off * kinds, total)
        shorter.append(np.where((total > 0) & (rest > 0), b / np.where(rest > 0, rest, 1.0), b))
        # The unseen unigrams of a back-off model have a probability too: the next level's denominators need it.
        seen.append(np.where(a > 0, a, shorter[1][0] / counts.vocab_size) if k == 1 else a)
        discounts.append(taken)
    return NgramModel(counts, tuple(seen), tuple(shorter), interpolated=False, discounts=tuple(discounts))


def stupid_back_off(counts: NgramCounts, *, factor: float = 0.4) -> NgramModel:
    """Relative frequency where seen, else `factor` times the shorter one's: a score, not a probability."""
    seen, shorter = [np.zeros(1)], [np.zeros(1)]
    for k, level in enumerate(counts.levels[1:], start=1):
        count = _predictable(level.count, level, k, counts.vocab_size)
        total = _by_context(level, count, counts, k)
        seen.append(count / np.maximum(total, 1)[level.prefix])
        shorter.append(np.full(len(total), factor))
    return NgramModel(
        counts, tuple(seen), tuple(shorter), interpolated=False, unseen_context=factor, normalized=False
    )


def _look_up(table: Floats, rank: Ints, *, missing: float) -> Floats:
    found = np.full(len(rank), missing)
    known = rank >= 0
    found[known] = table[rank[known]]
    return found


def _predictable(count: Ints, level: Level, k: int, start: int) -> Ints:
    """Counts as predictions: START is a unigram that is never predicted."""
    return np.where(level.keys == start, 0, count) if k == 1 else count


def _by_context(level: Level, values: NDArray[np.generic], counts: NgramCounts, k: int) -> Floats:
    """(N_{k-1},) sum of `values` over the k-grams that extend each context."""
    size = len(counts.levels[k - 1].keys)
    return np.bincount(level.prefix, weights=values.astype(np.float64), minlength=size).astype(np.float64)


def _leftover(taken: Floats, total: Floats) -> Floats:
    """Share of each context's mass that was taken; all of it (1) where the context never had a next token."""
    return np.where(total > 0, taken / np.where(total > 0, total, 1.0), 1.0)


def _discount(count: Ints, kind: Literal["modified", "absolute"] | float) -> Discount:
    """D for counts of 1, 2, 3+ from the counts of counts n1 .. n4: Y = n1/(n1+2 n2), D_i = i - (i+1) Y n_{i+1}/n_i.

    Too little text leaves a count of counts at zero: then one discount Y serves, and 1/2 where even that has no ground.
    """
    if not isinstance(kind, str):
        if not 0 < kind < 1:
            raise OrreryError(f"a fixed discount lies between 0 and 1, not {kind}")
        return (kind, kind, kind)
    n1, n2, n3, n4 = (float(n) for n in np.bincount(np.minimum(count, 5), minlength=6)[1:5])
    if n1 == 0 or n2 == 0:
        return (0.5, 0.5, 0.5)
    y = n1 / (n1 + 2 * n2)
    if kind == "modified" and n3 > 0 and n4 > 0:
        d = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 < d_i < i for i, d_i in enumerate(d, start=1)):
            return d
    return (y, y, y)
