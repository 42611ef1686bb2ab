from __future__ import annotations

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator
from orrery.model.word_vectors.vocabulary import count_words
from orrery.model.word_vectors.windows import NONE, pairs, preceding, windows

SENTENCES = [["the", "quick", "brown", "fox", "jumps"]]


def named(sentences: list[list[str]], window: int) -> list[tuple[str, str]]:
    vocabulary = count_words(sentences)
    found = pairs(vocabulary.encode(sentences), window=window)
    return [
        (vocabulary.words[a], vocabulary.words[b]) for a, b in zip(found.centres, found.contexts, strict=True)
    ]


def test_words_are_counted_most_frequent_first_then_by_alphabet() -> None:
    vocabulary = count_words([["b", "a", "c"], ["a", "b"], ["a"]])
    assert vocabulary.words == ("a", "b", "c") and vocabulary.counts.tolist() == [3, 2, 1]
    assert count_words([["b", "a", "a"]], min_count=2).words == ("a",)


def test_words_left_out_are_dropped_or_named() -> None:
    vocabulary = count_words([["a", "a", "b"]], min_count=2)
    assert vocabulary.encode([["b", "a"], []])[0].tolist() == [0]
    assert vocabulary.encode([["b", "a"]], unknown=7)[0].tolist() == [7, 0]


def test_no_word_often_enough_says_so() -> None:
    with pytest.raises(OrreryError, match="none of the 2 words occurs 5 times"):
        count_words([["a", "b"]], min_count=5)


def test_noise_flattens_the_counts() -> None:
    vocabulary = count_words([["a"] * 16 + ["b"]])
    assert vocabulary.noise() == pytest.approx([8 / 9, 1 / 9])  # 16^(3/4) = 8
    assert vocabulary.noise(1) == pytest.approx([16 / 17, 1 / 17])


def test_frequent_words_are_thinned_out() -> None:
    vocabulary = count_words([["a"] * 64 + ["b"] * 36])
    assert vocabulary.keep(0.16) == pytest.approx([0.5, 2 / 3])  # sqrt(0.16 / 0.64), sqrt(0.16 / 0.36)
    assert vocabulary.keep(0.5) == pytest.approx([np.sqrt(0.5 / 0.64), 1])


def test_the_pairs_of_a_sentence_worked_by_hand() -> None:
    assert named(SENTENCES, 2) == [
        ("the", "quick"), ("the", "brown"),
        ("quick", "the"), ("quick", "brown"), ("quick", "fox"),
        ("brown", "the"), ("brown", "quick"), ("brown", "fox"), ("brown", "jumps"),
        ("fox", "quick"), ("fox", "brown"), ("fox", "jumps"),
        ("jumps", "brown"), ("jumps", "fox"),
    ]  # fmt: skip


def test_windows_end_with_the_sentence_and_may_be_longer_than_it() -> None:
    assert named([["a", "b"], ["c"], [], ["d", "e"]], 9) == [("a", "b"), ("b", "a"), ("d", "e"), ("e", "d")]


def test_rows_hold_the_places_left_to_right() -> None:
    found = windows([np.array([5, 6, 7])], window=2)
    assert found.centres.tolist() == [5, 6, 7]
    assert found.contexts.tolist() == [[NONE, NONE, 6, 7], [NONE, 5, 7, NONE], [5, 6, NONE, NONE]]
    assert pairs([np.array([5, 6, 7])], window=2).distance.tolist() == [1, 2, 1, 1, 2, 1]


def test_a_drawn_reach_prefers_near_words() -> None:
    text = [np.arange(20_000)]
    found = pairs(text, window=4, generator=numpy_generator(0, "reach"))
    share = np.bincount(found.distance)[1:] / (2 * 20_000)
    assert share == pytest.approx([1, 0.75, 0.5, 0.25], abs=0.02)


def test_nothing_to_pair_gives_nothing() -> None:
    assert len(pairs([], window=2).centres) == 0
    assert len(windows([np.array([1])], window=2).centres) == 0


def test_what_precedes_starts_with_the_mark() -> None:
    found = preceding([np.array([1, 2, 3]), np.array([], dtype=np.int64)], length=2, start=9)
    assert found.centres.tolist() == [1, 2, 3]
    assert found.contexts.tolist() == [[9, 9], [9, 1], [1, 2]]
