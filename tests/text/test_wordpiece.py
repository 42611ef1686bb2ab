"""WordPiece training: the merge that raises the likelihood most, worked by hand and checked against a slow search."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.text.wordpiece import PREFIX, merge_pair, train_wordpiece

Words = dict[str, int]


def likelihood_after(words: Words, pair: tuple[str, str] | None) -> float:
    """log-likelihood of the words, one pair merged, under the unigram model that fits them best."""
    counts = Counter[str]()
    for word, n in words.items():
        pieces = [word[0], *(PREFIX + char for char in word[1:])]
        for piece in merge_pair(pieces, pair, merged(pair)) if pair else pieces:
            counts[piece] += n
    total = sum(counts.values())
    return sum(n * math.log(n / total) for n in counts.values())


def merged(pair: tuple[str, str]) -> str:
    return pair[0] + pair[1].removeprefix(PREFIX)


def gains(words: Words) -> dict[str, float]:
    """By the piece it makes: how much each possible merge raises the likelihood."""
    pairs = {pair for word in words for pair in pairwise([word[0], *(PREFIX + char for char in word[1:])])}
    return {merged(pair): likelihood_after(words, pair) - likelihood_after(words, None) for pair in pairs}


def test_likelihood_is_not_frequency() -> None:
    """`a` stands before everything, so `ab` (3 times) is little news; x and y come only together (2 times)."""
    words = {"ab": 3, "ac": 3, "ad": 3, "ae": 3, "xy": 2}
    # By the estimate n log(n N / (c_a c_b)): ab 3 log(3 * 28 / (12 * 3)) = 2.5, xy 2 log(2 * 28 / (2 * 2)) = 5.3.
    assert train_wordpiece(words, 8)[7:] == ["xy"]
    assert max(gains(words), key=gains(words).__getitem__) == "xy"


no_doubles = st.text("abcd", min_size=1, max_size=6).filter(
    lambda word: all(a != b for a, b in pairwise(word))
)


@settings(max_examples=300, deadline=None)
@given(words=st.dictionaries(no_doubles, st.integers(2, 9), min_size=1, max_size=8))
def test_the_first_merge_raises_the_likelihood_most(words: Words) -> None:
    letters = {word[0] for word in words} | {PREFIX + char for word in words for char in word[1:]}
    possible, learned = gains(words), train_wordpiece(words, len(letters) + 1)[len(letters) :]
    best = max(possible.values(), default=0.0)
    if learned:
        assert possible[learned[0]] == pytest.approx(best, abs=1e-9)
    else:
        assert best < 1e-9


def test_a_whole_training_by_hand() -> None:
    # b, ##u and ##n come only together: ##un and bu gain the same, and of equals the first by name is taken.
    assert train_wordpiece({"bun": 2, "buns": 2}, 8) == ["b", "##n", "##s", "##u", "##un", "bun", "buns"]


def test_training_ends_when_nothing_is_frequent_enough() -> None:
    assert train_wordpiece({"ab": 1, "cd": 5}, 99, min_frequency=2) == ["a", "c", "##b", "##d", "cd"]
    pieces = train_wordpiece({"abcdef": 9}, 99, max_length=3)
    assert max(len(piece.removeprefix(PREFIX)) for piece in pieces) == 3


def test_repeated_letters_merge_from_the_left() -> None:
    assert merge_pair(["a", "##a", "##a", "##a"], ("##a", "##a"), "##aa") == ["a", "##aa", "##a"]
    assert "##aa" in train_wordpiece({"baaaa": 5, "caaaa": 5, "b": 40, "c": 40}, 5)
