"""TER, translation edit rate: the fewest edits that make a hypothesis its reference, over the length of the reference.

    TER = 100 (insertions + deletions + substitutions + shifts) / words of the reference      (0 is best; above 100 is possible)

A shift moves a run of words that the reference has elsewhere, for the price of one edit. The best set of shifts is too
hard to find, so shifts are taken greedily, the one that saves most first, under the limits of the program Tercom (see
`shifts`). Several references: the fewest edits over the mean length. Snover et al. 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orrery.evaluate.metrics.banded import BandedDistance
from orrery.evaluate.metrics.bleu_tokens import Tokenisation, bleu_tokens
from orrery.evaluate.metrics.shifts import Shift, possible_shifts
from orrery.evaluate.metrics.text_pairs import check_pairs

MAX_CANDIDATES = 1000
"""Shifts tried for one pair of texts; beyond it no further shift is made, so long texts stay affordable."""


def ter_counts(
    hypothesis: str,
    references: Sequence[str],
    *,
    tokenisation: Tokenisation = "none",
    lowercase: bool = True,
) -> NDArray[np.float64]:
    """(2,) edits and mean length of the references; rows of a corpus add up, `ter_of` makes a score of their sum."""
    said = bleu_tokens(hypothesis, tokenisation, lowercase=lowercase)
    wanted = [bleu_tokens(text, tokenisation, lowercase=lowercase) for text in references]
    return np.array(
        [min(ter_edits(said, words) for words in wanted), np.mean([len(words) for words in wanted])]
    )


def ter_of(counts: NDArray[np.float64]) -> float:
    """Edits over length, in percent; against empty references 100 if anything was said, else 0."""
    edits, length = counts.tolist()
    return 100 * (edits / length if length else float(edits > 0))


def ter(
    hypothesis: str,
    references: Sequence[str],
    *,
    tokenisation: Tokenisation = "none",
    lowercase: bool = True,
) -> float:
    """TER of one text. Words are at white space; for Chinese and Japanese give "zh" or "char"."""
    return corpus_ter([hypothesis], [references], tokenisation=tokenisation, lowercase=lowercase)


def corpus_ter(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenisation: Tokenisation = "none",
    lowercase: bool = True,
) -> float:
    """TER of a corpus, from summed counts; no texts score 0.

    Args:
        references: for each hypothesis, its references.

    Raises:
        OrreryError: not one non-empty list of references for each hypothesis.
    """
    check_pairs(hypotheses, references)
    total = np.zeros(2)
    for text, wanted in zip(hypotheses, references, strict=True):
        total += ter_counts(text, wanted, tokenisation=tokenisation, lowercase=lowercase)
    return ter_of(total)


def ter_edits(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Shifts and other edits, in all, by greedy search."""
    if not reference:
        return len(hypothesis)
    numbers = {word: i for i, word in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    words = np.array([numbers[word] for word in hypothesis], dtype=np.int64)
    distance = BandedDistance(np.array([numbers[word] for word in reference], dtype=np.int64))
    made, tried = 0, 0
    while len(words):
        edits, alignment = distance.trace(words)
        shifts = possible_shifts(words, distance.reference, alignment, most=MAX_CANDIDATES - tried)
        tried += len(shifts)
        if not shifts or tried >= MAX_CANDIDATES:
            break
        moved = np.stack([shift.apply(words) for shift in shifts])
        saved = edits - distance.of(moved)
        best = max(range(len(shifts)), key=lambda i: _preference(int(saved[i]), shifts[i], moved[i]))
        if saved[best] <= 0:
            break
        words, made = moved[best], made + 1
    return made + distance.trace(words)[0]


def _preference(saved: int, shift: Shift, moved: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Most saved, then longest, then earliest, then to the earliest place."""
    return saved, shift.length, -shift.start, -shift.target
