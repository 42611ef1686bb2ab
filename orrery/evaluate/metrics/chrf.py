"""chrF: F-score over runs of 1 to 6 characters; chrF++ adds single words and pairs.

    chrF = 100 (1 + beta^2) P R / (beta^2 P + R),   P, R = means of precision and recall over orders,   beta = 2

Recall counts for more than precision. It needs no tokeniser and gives credit for a word's stem, which suits languages
with many endings. Orders in which either text has no run are left out. Popovic 2015; 2017 (chrF++).
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.text_pairs import check_pairs, ngrams, overlap

CHAR_ORDER = 6
PUNCTUATION = frozenset(string.punctuation)


def chrf_counts(
    hypothesis: str,
    references: Sequence[str],
    *,
    word_order: int = 0,
    char_order: int = CHAR_ORDER,
    lowercase: bool = False,
    beta: float = 2.0,
) -> NDArray[np.int64]:
    """(orders, 3) runs of the hypothesis, of the reference and shared, against the reference with the best score.

    Tables of a corpus add up; `chrf_of` makes a score of their sum.
    """
    best, best_score = np.zeros((char_order + word_order, 3), dtype=np.int64), -1.0
    said = _runs(hypothesis.lower() if lowercase else hypothesis, char_order, word_order)
    for text in references:
        wanted = _runs(text.lower() if lowercase else text, char_order, word_order)
        table = np.array(
            [(h.total() if r else 0, r.total(), overlap(h, r)) for h, r in zip(said, wanted, strict=True)],
            dtype=np.int64,
        )
        if (score := chrf_of(table, beta=beta)) > best_score:
            best, best_score = table, score
    return best


def chrf_of(counts: NDArray[np.int64], *, beta: float = 2.0) -> float:
    """The score, 0 to 100, of summed tables (orders, 3); 0 where no order can be compared."""
    both = counts[(counts[:, 0] > 0) & (counts[:, 1] > 0)]
    if not len(both):
        return 0.0
    precision, recall = (both[:, 2] / both[:, 0]).mean(), (both[:, 2] / both[:, 1]).mean()
    if precision + recall == 0:
        return 0.0
    return float(100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall))


def chrf(
    hypothesis: str,
    references: Sequence[str],
    *,
    word_order: int = 0,
    lowercase: bool = False,
    beta: float = 2.0,
) -> float:
    """chrF of one text; `word_order=2` gives chrF++."""
    return corpus_chrf([hypothesis], [references], word_order=word_order, lowercase=lowercase, beta=beta)


def corpus_chrf(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    word_order: int = 0,
    lowercase: bool = False,
    beta: float = 2.0,
) -> float:
    """chrF of a corpus, from summed counts; no texts score 0.

    Args:
        references: for each hypothesis, its references.

    Raises:
        OrreryError: not one non-empty list of references for each hypothesis.
    """
    check_pairs(hypotheses, references)
    total = np.zeros((CHAR_ORDER + word_order, 3), dtype=np.int64)
    for text, wanted in zip(hypotheses, references, strict=True):
        total += chrf_counts(text, wanted, word_order=word_order, lowercase=lowercase, beta=beta)
    return chrf_of(total, beta=beta)


def chrf_words(text: str) -> list[str]:
    """Words at white space, with one mark of punctuation taken off the end, or else off the front."""
    words: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _runs(text: str, char_order: int, word_order: int) -> list:
    letters, words = "".join(text.split()), chrf_words(text) if word_order else []
    return [
        *(ngrams(letters, n) for n in range(1, char_order + 1)),
        *(ngrams(words, n) for n in range(1, word_order + 1)),
    ]
