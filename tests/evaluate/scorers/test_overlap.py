from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.scorers import ScoreContext, find
from orrery.evaluate.scorers.overlap import span_f1, word_f1


def test_words_in_common() -> None:
    assert word_f1("the Denver Broncos", "Denver Broncos") == 1.0
    assert word_f1("Broncos", "Denver Broncos") == pytest.approx(2 / 3)  # p = 1, r = 1/2
    assert word_f1("Denver Denver", "Denver Broncos") == 0.5
    assert word_f1("Patriots", "Denver Broncos") == 0.0
    assert word_f1("", "Denver") == 0.0


def test_a_number_must_be_the_golds() -> None:
    assert word_f1("25 yards", "24 yards") == 0.0
    assert word_f1("24 yards", "24 yards") == 1.0
    assert word_f1("1,080.0 yards", "1080 yards") == 1.0
    assert word_f1("yards 24", "24") == pytest.approx(2 / 3)


def test_spans_are_matched_one_to_one() -> None:
    assert span_f1(["Smith", "Jones"], ["Jones", "Smith"]) == 1.0
    assert span_f1(["Smith"], ["Jones", "Smith"]) == 0.5
    assert span_f1(["Smith", "Smith"], ["Jones", "Smith"]) == 0.5
    # the best matching is not the greedy one: "a b" fits both, "b c" only the second
    assert span_f1(["red green", "red"], ["red", "red green blue"]) == pytest.approx((1 + 0.8) / 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["red", "green", "blue", "7", "8"]), min_size=1, max_size=5))
def test_f1_is_symmetric_without_numbers_and_1_of_itself(words) -> None:
    text = " ".join(words)
    assert word_f1(text, text) == 1.0
    assert 0.0 <= word_f1(text, "red 7") <= 1.0
    assert span_f1(words, words) == 1.0


def test_the_best_gold_counts() -> None:
    gold = ScoreContext(target="24")
    row = {"aliases": ["twenty-four", ["Smith", "Jones"]]}
    assert find("f1")("24", row, gold) == {"exact_match": 1.0, "f1": 1.0}
    assert find("f1")("Jones and Smith", row, gold) == {"exact_match": 1.0, "f1": 1.0}
    assert find("f1")("", row, gold) == {"exact_match": 0.0, "f1": 0.0}
