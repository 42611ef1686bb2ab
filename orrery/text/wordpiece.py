r"""WordPiece: vocabulary training by likelihood, in the open.

Start from single characters (those inside a word carry `##`). Again and again, merge the pair of neighbours whose merge
raises the likelihood of the training words under a unigram model the most, until the vocabulary is full. With counts c,
total N, and the pair (a, b) seen n times, maximum likelihood gives L = sum_x c_x log c_x - N log N, so the merge gains

    f(n) + f(c_a - n) - f(c_a) + f(c_b - n) - f(c_b) - f(N - n) + f(N),     f(x) = x log x

which for rare pairs is close to n log(n N / (c_a c_b)): how often, times how much more often than by chance. BPE would
take the largest n. (The library's own WordPiece trainer is BPE by count, and its vocabulary changes from run to run.)

Source: Schuster and Nakajima 2012, "Japanese and Korean voice search", section 3.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import pairwise

PREFIX = "##"
Pair = tuple[str, str]


def train_wordpiece(
    words: Mapping[str, int], size: int, *, min_frequency: int = 2, max_length: int | None = None
) -> list[str]:
    """The vocabulary: characters in code point order (those that begin words first), then pieces as they were made.

    Args:
        words: how often each word occurs.
        size: at most this many pieces (but every character is kept).
    """
    order = sorted(words)
    counts = [words[word] for word in order]
    spelled = [[word[0], *(PREFIX + char for char in word[1:])] for word in order]
    state = _Counts(spelled, counts)
    vocabulary = sorted(state.symbols, key=lambda piece: (piece.startswith(PREFIX) and len(piece) > 2, piece))
    heap = [(-state.gain(pair), pair) for pair, n in state.pairs.items() if n >= min_frequency]
    heapq.heapify(heap)
    while len(vocabulary) < size and heap:
        _, pair = heapq.heappop(heap)
        gain = state.gain(pair)
        if state.pairs[pair] < min_frequency or gain <= 0:
            continue
        if heap and gain < -heap[0][0]:
            heapq.heappush(heap, (-gain, pair))  # its gain has fallen since it was queued
            continue
        merged = pair[0] + pair[1].removeprefix(PREFIX)
        if max_length and len(merged.removeprefix(PREFIX)) > max_length:
            continue
        vocabulary.append(merged)
        for changed in state.merge(pair, merged):
            if state.pairs[changed] >= min_frequency:
                heapq.heappush(heap, (-state.gain(changed), changed))
    return vocabulary


class _Counts:
    """Counts of pieces and of neighbouring pairs, kept right while pairs are merged."""

    def __init__(self, words: list[list[str]], counts: list[int]) -> None:
        self.words, self.counts = words, counts
        self.symbols: Counter[str] = Counter()
        self.pairs: Counter[Pair] = Counter()
        self.total = 0
        self.where: dict[Pair, set[int]] = defaultdict(set)
        self.beside: dict[str, set[Pair]] = defaultdict(set)
        for i in range(len(words)):
            self._count(i, 1)

    def _count(self, i: int, sign: int) -> set[Pair]:
        """Add (or take away) one word; the pairs in it."""
        word, n = self.words[i], sign * self.counts[i]
        self.total += n * len(word)
        for piece in word:
            self.symbols[piece] += n
        pairs = set(pairwise(word))
        for pair in pairwise(word):
            self.pairs[pair] += n
        for pair in pairs:
            self.where[pair].add(i)
            self.beside[pair[0]].add(pair)
            self.beside[pair[1]].add(pair)
        return pairs

    def gain(self, pair: Pair) -> float:
        """How much the log-likelihood rises if this pair is merged everywhere."""
        n, (a, b) = self.pairs[pair], pair
        count_a, count_b = self.symbols[a], self.symbols[b]
        gain = _f(n) - _f(self.total - n) + _f(self.total) - _f(count_a)
        if a == b:  # each merge uses up two
            return gain + _f(count_a - 2 * n)
        return gain + _f(count_a - n) + _f(count_b - n) - _f(count_b)

    def merge(self, pair: Pair, merged: str) -> list[Pair]:
        """Merge the pair in every word, from the left; the pairs whose gain may have risen."""
        changed: set[Pair] = set()
        for i in sorted(self.where.pop(pair)):
            changed |= self._count(i, -1)
            self.words[i] = merge_pair(self.words[i], pair, merged)
            changed |= self._count(i, 1)
        changed |= self.beside[pair[0]] | self.beside[pair[1]]
        gone = {p for p in changed if self.pairs[p] <= 0}
        for p in gone:
            del self.pairs[p]
            self.where.pop(p, None)
            self.beside[p[0]].discard(p)
            self.beside[p[1]].discard(p)
        return sorted(changed - gone)


def _f(x: int) -> float:
    return x * math.log(x) if x > 0 else 0.0


def merge_pair(word: list[str], pair: Pair, merged: str) -> list[str]:
    """Every occurrence of the pair in a word, from the left, as one piece."""
    out: list[str] = []
    for piece in word:
        if out and (out[-1], piece) == pair:
            out[-1] = merged
        else:
            out.append(piece)
    return out
