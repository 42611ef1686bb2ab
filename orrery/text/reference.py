"""The mechanisms in plain Python: byte pair encoding, WordPiece and unigram, short enough to read at a sitting.

The tokenizers library does the work in Orrery; these say what the work is, and tests hold both to the same results.

    merges = train_bpe({"low": 5, "lower": 2, "newest": 6, "widest": 3}, merges=10)
    encode_bpe("lowest", merges)                     # ["low", "est"]

Sources: Sennrich et al. 2016, arXiv:1508.07909 (BPE); Wu et al. 2016, arXiv:1609.08144 (WordPiece); Kudo 2018,
arXiv:1804.10959 (unigram).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from orrery.text.wordpiece import Pair, merge_pair


def train_bpe(
    words: Mapping[str | tuple[str, ...], int],
    *,
    merges: int,
    alphabet: Sequence[str] = (),
    min_frequency: int = 1,
) -> list[Pair]:
    """Learn merges: the most frequent pair of neighbours becomes one symbol, again and again.

    Of pairs equally frequent, the one whose left symbol (then right symbol) came into the vocabulary first wins. The
    vocabulary is the alphabet in code point order, then the merged symbols.

    Args:
        words: how often each word occurs; a word is a string of characters or a tuple of symbols.
        merges: how many symbols to add.
        alphabet: symbols to count as known even if no word has them.
    """
    order = sorted(words, key=list)
    spelled = [list(word) for word in order]
    number = {
        symbol: i for i, symbol in enumerate(sorted({*alphabet, *(s for word in spelled for s in word)}))
    }
    full = len(number) + merges
    counts: Counter[Pair] = Counter()
    where: dict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(spelled):
        for pair in _pairs(word):
            counts[pair] += words[order[i]]
            where[pair].add(i)

    def entry(pair: Pair) -> tuple[int, int, int, Pair]:
        return -counts[pair], number[pair[0]], number[pair[1]], pair

    heap = [entry(pair) for pair in counts]
    heapq.heapify(heap)
    learned: list[Pair] = []
    while heap and len(number) < full:
        least, *_, pair = heapq.heappop(heap)
        if counts[pair] != -least:  # counted again since it was queued
            if counts[pair] > 0:
                heapq.heappush(heap, entry(pair))
            continue
        if counts[pair] < max(min_frequency, 1):
            break
        symbol = "".join(pair)
        number.setdefault(symbol, len(number))
        learned.append(pair)
        risen: set[Pair] = set()
        for i in where.pop(pair):
            n = words[order[i]]
            before, spelled[i] = _pairs(spelled[i]), merge_pair(spelled[i], pair, symbol)
            for old in before:
                counts[old] -= n
            for new in _pairs(spelled[i]):
                counts[new] += n
                if symbol in new:
                    where[new].add(i)
                    risen.add(new)
        for new in risen:
            heapq.heappush(heap, entry(new))
    return learned


def _pairs(word: Sequence[str]) -> list[Pair]:
    return list(pairwise(word))


def encode_bpe(word: Sequence[str], merges: Sequence[Pair]) -> list[str]:
    """Apply merges by rank: of the pairs present, always the one learned first, until none is known."""
    rank = {pair: i for i, pair in enumerate(merges)}
    symbols = list(word)
    while True:
        known = [pair for pair in _pairs(symbols) if pair in rank]
        if not known:
            return symbols
        pair = min(known, key=lambda pair: rank[pair])
        symbols = merge_pair(symbols, pair, "".join(pair))


def encode_wordpiece(
    word: str, vocabulary: Mapping[str, int], *, unknown: str, longest: int = 100
) -> list[str]:
    """Greedy: the longest known piece from the left, `##` before all but the first; one unknown token if that fails."""
    pieces: list[str] = []
    start = 0
    if len(word) > longest:
        return [unknown]
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return [unknown]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def encode_unigram(word: str, logp: Mapping[str, float], *, unknown_penalty: float = 10.0) -> list[str]:
    """Viterbi: the cut of a word into pieces with the highest total log-probability.

    A character that is no piece costs the lowest log-probability less `unknown_penalty`; neighbours of that kind join.
    """
    floor = min(logp.values()) - unknown_penalty
    longest = max(map(len, logp))
    best = [0.0] + [-math.inf] * len(word)  # best[i]: score of the best cut of word[:i]
    start = [0] * (len(word) + 1)
    for i in range(len(word)):
        for j in range(i + 1, min(i + longest, len(word)) + 1):
            score = logp.get(word[i:j], floor if j == i + 1 else -math.inf)
            if best[i] + score > best[j]:
                best[j], start[j] = best[i] + score, i
    pieces: list[str] = []
    end = len(word)
    while end:
        piece = word[start[end] : end]
        if pieces and piece not in logp and pieces[-1][:1] and pieces[-1] not in logp:
            pieces[-1] = piece + pieces[-1]
        else:
            pieces.append(piece)
        end = start[end]
    return pieces[::-1]
