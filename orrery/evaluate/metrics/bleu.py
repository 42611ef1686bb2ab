"""BLEU: how many of a translation's words, pairs, triples and quadruples also stand in a reference.

    BLEU = BP * exp( 1/4 sum_n ln p_n ),   p_n = clipped matches / n-grams of the hypothesis,   BP = min(1, exp(1 - r/c))

over a whole corpus: counts are summed, then divided. c is the length of the hypotheses, r that of the references (of
several, the one nearest in length, the shorter of two as near). Scores run from 0 to 100.
Papineni et al. 2002; Chen & Cherry 2014 (smoothing); Post 2018, arXiv:1804.08771.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.bleu_tokens import Tokenisation, bleu_tokens
from orrery.evaluate.metrics.text_pairs import check_pairs, ngrams, overlap

Smoothing = Literal["exp", "floor", "add-k", "none"]
ORDER = 4


@dataclass(frozen=True, kw_only=True)
class Bleu:
    """A score with its parts; precisions in percent, one an order, after smoothing."""

    score: float
    precisions: tuple[float, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int


def bleu_counts(
    hypothesis: str,
    references: Sequence[str],
    *,
    tokenisation: Tokenisation = "13a",
    lowercase: bool = False,
    order: int = ORDER,
) -> NDArray[np.int64]:
    """(2 + 2 * order,) lengths of hypothesis and nearest reference, matches by order, n-grams by order.

    Rows of a corpus add up; `bleu_of` makes a score of their sum.
    """
    said = bleu_tokens(hypothesis, tokenisation, lowercase=lowercase)
    wanted = [bleu_tokens(text, tokenisation, lowercase=lowercase) for text in references]
    nearest = min((len(words) for words in wanted), key=lambda length: (abs(length - len(said)), length))
    matches, totals = [], []
    for n in range(1, order + 1):
        most: Counter[Any] = Counter()
        for words in wanted:
            most |= ngrams(words, n)
        matches.append(overlap(ngrams(said, n), most))
        totals.append(max(0, len(said) - n + 1))
    return np.array([len(said), nearest, *matches, *totals], dtype=np.int64)


def bleu_of(
    counts: NDArray[np.int64],
    *,
    smoothing: Smoothing = "exp",
    value: float | None = None,
    effective_order: bool = False,
) -> Bleu:
    """The score of summed counts; without any match 0.

    Args:
        smoothing: what an order without matches counts: "exp" half, a quarter, ... of a match (as NIST), "floor"
            `value` matches (0.1), "add-k" `value` (1) more matches and n-grams from pairs on, "none" makes the score 0.
        effective_order: leave out orders longer than the hypothesis, as is wanted for single sentences.
    """
    order = (len(counts) - 2) // 2
    lengths, matches, totals = (
        counts[:2].tolist(),
        counts[2 : 2 + order].tolist(),
        counts[2 + order :].tolist(),
    )
    penalty = brevity_penalty(*lengths)
    if smoothing == "add-k" and any(matches):
        matches, totals = (
            [x[0], *(y + (1 if value is None else value) for y in x[1:])] for x in (matches, totals)
        )
    precisions, halved = [0.0] * order, 1.0
    used = order if any(matches) else 0
    for n, (match, total) in enumerate(zip(matches, totals, strict=True)):
        if total == 0 or not used:
            break
        if effective_order:
            used = n + 1
        if match == 0 and smoothing == "exp":
            halved /= 2
            match = halved
        elif match == 0 and smoothing == "floor":
            match = 0.1 if value is None else value
        precisions[n] = 100 * match / total
    score = penalty * _geometric_mean(precisions[:used])
    return Bleu(
        score=score,
        precisions=tuple(precisions),
        brevity_penalty=penalty,
        hypothesis_length=lengths[0],
        reference_length=lengths[1],
    )


def bleu(
    hypothesis: str,
    references: Sequence[str],
    *,
    tokenisation: Tokenisation = "13a",
    lowercase: bool = False,
    smoothing: Smoothing = "exp",
    value: float | None = None,
    order: int = ORDER,
) -> Bleu:
    """BLEU of one sentence, by orders that fit into it. It scatters widely; corpora are what BLEU was made for."""
    check_pairs([hypothesis], [references])
    counts = bleu_counts(hypothesis, references, tokenisation=tokenisation, lowercase=lowercase, order=order)
    return bleu_of(counts, smoothing=smoothing, value=value, effective_order=True)


def corpus_bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenisation: Tokenisation = "13a",
    lowercase: bool = False,
    smoothing: Smoothing = "exp",
    value: float | None = None,
    order: int = ORDER,
) -> Bleu:
    """BLEU of a corpus; no sentences score 0.

    Args:
        references: for each hypothesis, its references.

    Raises:
        OrreryError: not one non-empty list of references for each hypothesis.
    """
    check_pairs(hypotheses, references)
    total = np.zeros(2 + 2 * order, dtype=np.int64)
    for text, wanted in zip(hypotheses, references, strict=True):
        total += bleu_counts(text, wanted, tokenisation=tokenisation, lowercase=lowercase, order=order)
    return bleu_of(total, smoothing=smoothing, value=value)


def brevity_penalty(hypothesis_length: int, reference_length: int) -> float:
    """exp(1 - r / c) for hypotheses shorter than their references, else 1; 0 for empty ones."""
    if hypothesis_length >= reference_length:
        return 1.0
    return math.exp(1 - reference_length / hypothesis_length) if hypothesis_length else 0.0


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values and min(values) > 0 else 0.0
