"""Hypotheses with their references: one list of references for each, and counts of n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orrery.kit.errors import OrreryError


def check_pairs(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """
    Raises:
        OrreryError: not one list of references, with at least one, for each hypothesis. (A single text in place of a
            list would be read as one reference a letter.)
    """
    if len(hypotheses) != len(references):
        raise OrreryError(
            f"every hypothesis needs its references; there are {len(hypotheses)} hypotheses and {len(references)} lists"
        )
    for i, texts in enumerate(references):
        if isinstance(texts, str) or not texts:
            raise OrreryError(f"hypothesis {i} needs a list of one or more references, such as ['the text']")


def ngrams(items: Sequence[Any], n: int) -> Counter[Any]:
    """How often each run of n items occurs; runs of a string are strings, of a list tuples."""
    if isinstance(items, str):
        return Counter(items[i : i + n] for i in range(len(items) - n + 1))
    return Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))


def overlap(a: Counter[Any], b: Counter[Any]) -> int:
    """Runs in both, each counted as often as in the one that has fewer ("clipped")."""
    return sum(min(count, b[run]) for run, count in a.items() if run in b)
