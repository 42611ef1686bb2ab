"""The merge list found from scores repeats SentencePiece's own algorithm."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from orrery.kit.errors import OrreryError
from orrery.text.scored_merges import merges_of_scores


def by_definition(text: str, scores: dict[str, float]) -> list[str]:
    """Join the two neighbours that make the best-scored piece, the leftmost first, until none do."""
    symbols = list(text)
    while True:
        joined = [(scores.get(a + b, -np.inf), -i) for i, (a, b) in enumerate(pairwise(symbols))]
        best, at = max(joined, default=(-np.inf, 0))
        if best == -np.inf:
            return symbols
        symbols[-at : -at + 2] = [symbols[-at] + symbols[-at + 1]]


def test_by_hand() -> None:
    pieces = ["a", "b", "c", "ab", "bc", "abc", "cab"]
    scores = np.array([-9, -9, -9, -2, -1, -3, -4], np.float32)
    # bc is made before ab, so abc is a + bc; cab is c + ab
    assert merges_of_scores(pieces, scores, "x") == [("b", "c"), ("a", "b"), ("a", "bc"), ("c", "ab")]
    assert merges_of_scores(["a", "aa", "aaa"], np.array([0, -1, -2]), "x") == [("a", "a"), ("aa", "a")]
    # nothing makes "ac" of what is left when "xac" is spelled, and "é" is no piece
    assert merges_of_scores(["a", "c", "aé", "éc"], np.zeros(4), "x") == []
    assert merges_of_scores([], np.zeros(0), "x") == []


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.sets(st.text("abc", min_size=2, max_size=6), max_size=25),
    texts=st.lists(st.text("abc", max_size=20), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
)
def test_equal_to_the_definition(pieces: set[str], texts: list[str], order: np.random.Generator) -> None:
    every = [*"abc", *sorted(pieces)]
    ranks = list(range(len(every)))
    order.shuffle(ranks)  # scores in any order, even longer pieces before their parts
    scores = -np.array(ranks, np.float32)
    merges = merges_of_scores(every, scores, "x")
    library = models.BPE({piece: i for i, piece in enumerate(every)}, merges)
    for text in texts:
        found = [token.value for token in library.tokenize(text)]
        assert found == by_definition(text, dict(zip(every, scores.tolist(), strict=True)))


def test_pieces_of_absurd_length() -> None:
    with pytest.raises(OrreryError, match="pieces up to 9000 characters long"):
        merges_of_scores(["x" * 9000], np.zeros(1), "this file")
