"""Exact match and token F1 of short answers, as SQuAD has them: case, punctuation and English articles do not count.

Rajpurkar et al. 2016, arXiv:1606.05250.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the; single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str], *, normalise: bool = False) -> float:
    """1.0 if the answer is one of the references, else 0.0: to the character apart from space around, or normalised."""
    form = normalise_answer if normalise else str.strip
    return float(form(answer) in {form(reference) for reference in references})


def token_f1(answer: str, references: Sequence[str]) -> float:
    """The best F1 between the answer's normalised words and a reference's; two empty texts agree (1.0)."""
    return max((_overlap(normalise_answer(answer), normalise_answer(r)) for r in references), default=0.0)


def _overlap(answer: str, reference: str) -> float:
    said, wanted = answer.split(), reference.split()
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))
