"""ROUGE: how much of a reference summary's words, in runs or in order, a summary has.

    ROUGE-N     shared n-grams                            ROUGE-L      longest common subsequence
    ROUGE-Lsum  by sentences (lines): for every reference sentence the union of its subsequences with all of the summary's
    ROUGE-S     shared skip-bigrams; S4: at most 4 words between; SU adds single words

Each as precision (over the summary), recall (over the reference) and F1, 0 to 1. Lin 2004, Text Summarization Branches Out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from orrery.evaluate.metrics.lcs import lcs, lcs_length
from orrery.evaluate.metrics.porter import porter_stem
from orrery.evaluate.metrics.skip_bigrams import skip_bigrams
from orrery.evaluate.metrics.text_pairs import check_pairs, ngrams, overlap
from orrery.kit.errors import OrreryError

Words = Sequence[Hashable]
_NAME = re.compile(r"rouge(?:(?P<n>[1-9])|(?P<lcs>L|Lsum)|(?P<skip>SU?)(?P<gap>\d{0,4}))")
_WORD = re.compile(r"[a-z0-9]+")


class Rouge(NamedTuple):
    """All 0 where either text has nothing to count."""

    precision: float
    recall: float
    f1: float


def rouge_words(text: str, *, stem: bool = False) -> list[str]:
    """Lower-case runs of a-z and 0-9, longer than three letters stemmed if asked for.

    That is ROUGE's own notion of a word: of text in other scripts nothing is left, so give `rouge` other words there.
    """
    words = _WORD.findall(text.lower())
    return [porter_stem(word) if len(word) > 3 else word for word in words] if stem else words


def rouge(
    hypothesis: str,
    references: Sequence[str],
    name: str = "rougeL",
    *,
    stem: bool = False,
    words: Callable[[str], Words] | None = None,
) -> Rouge:
    """One kind of ROUGE; of several references the one with the best F1.

    Args:
        name: rouge1 to rouge9, rougeL, rougeLsum (sentences are lines), rougeS, rougeS4, rougeSU4 and so on.
        words: cuts a text into words, instead of `rouge_words` with `stem`: `list` compares characters.

    Raises:
        OrreryError: no such kind, or no reference.
    """
    check_pairs([hypothesis], [references])
    cut = words or (lambda text: rouge_words(text, stem=stem))
    return max((_rouge(hypothesis, text, name, cut) for text in references), key=lambda found: found.f1)


def rouge_n(hypothesis: Words, reference: Words, n: int) -> Rouge:
    """Shared runs of n words, clipped."""
    return _of_counts(ngrams(hypothesis, n), ngrams(reference, n))


def rouge_s(
    hypothesis: Words, reference: Words, *, max_skip: int | None = None, single: bool = False
) -> Rouge:
    """Shared skip-bigrams; `single` (ROUGE-SU) counts the words themselves too."""
    pairs: list[Counter[Any]] = [skip_bigrams(side, max_skip) for side in (hypothesis, reference)]
    if single:
        pairs = [
            count + Counter((word,) for word in side)
            for count, side in zip(pairs, (hypothesis, reference), strict=True)
        ]
    return _of_counts(*pairs)


def rouge_l(hypothesis: Words, reference: Words) -> Rouge:
    """The longest common subsequence."""
    return _of(lcs_length(hypothesis, reference), len(hypothesis), len(reference))


def rouge_lsum(hypothesis: Sequence[Words], reference: Sequence[Words]) -> Rouge:
    """By sentences. A word of the union counts no oftener than either whole text has it, as in ROUGE 1.5.5."""
    left = Counter(word for sentence in hypothesis for word in sentence)
    shared = 0
    for sentence in reference:
        union = {match.i for other in hypothesis for match in lcs(sentence, other)}
        for i in sorted(union):
            if left[sentence[i]] > 0:
                left[sentence[i]] -= 1
                shared += 1
    return _of(shared, sum(map(len, hypothesis)), sum(map(len, reference)))


def _rouge(hypothesis: str, reference: str, name: str, cut: Callable[[str], Words]) -> Rouge:
    found = _NAME.fullmatch(name)
    if not found:
        raise OrreryError(f"there is no '{name}'; use rouge1, rouge2, rougeL, rougeLsum, rougeS4 or rougeSU4")
    if found["lcs"] == "Lsum":
        return rouge_lsum(*([cut(line) for line in text.split("\n")] for text in (hypothesis, reference)))
    said, wanted = cut(hypothesis), cut(reference)
    if found["n"]:
        return rouge_n(said, wanted, int(found["n"]))
    if found["lcs"]:
        return rouge_l(said, wanted)
    gap = int(found["gap"]) if found["gap"] else None
    return rouge_s(said, wanted, max_skip=gap, single=found["skip"] == "SU")


def _of_counts(hypothesis: Counter[Any], reference: Counter[Any]) -> Rouge:
    return _of(overlap(hypothesis, reference), hypothesis.total(), reference.total())


def _of(shared: int, said: int, wanted: int) -> Rouge:
    if not shared:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = shared / said, shared / wanted
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))
