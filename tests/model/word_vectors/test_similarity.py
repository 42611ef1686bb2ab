from __future__ import annotations

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.model.word_vectors.similarity import WordVectors, read_questions, score_analogies

ROWS = {
    "man": (1, 0, 0),
    "woman": (1, 1, 0),
    "king": (1, 0, 1),
    "queen": (1, 1, 1),
    "apple": (-1, 0.2, 0),
    "nothing": (0, 0, 0),
}
VECTORS = WordVectors(tuple(ROWS), np.array(list(ROWS.values()), dtype=np.float32))


def test_cosines_worked_by_hand() -> None:
    assert VECTORS.similarity("man", "king") == pytest.approx(2**-0.5)
    assert VECTORS.similarity("woman", "king") == pytest.approx(0.5)
    assert VECTORS.similarity("man", "nothing") == 0


def test_neighbours_come_best_first_without_the_word() -> None:
    near = VECTORS.neighbours("king", k=2)
    assert [word for word, _ in near] == ["queen", "man"]
    assert near[0][1] == pytest.approx(2 / 6**0.5)
    assert len(VECTORS.neighbours("king", k=99)) == 5


def test_king_minus_man_plus_woman() -> None:
    assert VECTORS.analogy("man", "king", "woman")[0][0] == "queen"
    assert VECTORS.analogy("king", "king", "woman", leave_out_question=False)[0][0] == "woman"


def test_questions_are_scored_and_unknown_ones_left_out() -> None:
    questions = [("man", "king", "woman", "queen"), ("man", "king", "woman", "apple"), ("a", "b", "c", "d")]
    score = score_analogies(VECTORS, questions)
    assert (score.correct, score.asked, score.left_out, score.accuracy) == (1, 2, 1, 0.5)
    assert score_analogies(VECTORS, []).accuracy == 0


def test_the_score_agrees_with_answering_one_by_one() -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    vectors = WordVectors(tuple("abcdefghijkl"), matrix)
    questions = [(a, b, c, d) for a in "abcd" for b in "efgh" for c in "ijkl" for d in "abefij"]
    for rule in (True, False):
        one_by_one = sum(
            vectors.analogy(a, b, c, leave_out_question=rule)[0][0] == d for a, b, c, d in questions
        )
        score = score_analogies(vectors, questions, leave_out_question=rule)
        assert (score.correct, score.asked) == (one_by_one, 384) and one_by_one > 0


def test_a_question_without_any_answer_is_wrong() -> None:
    vectors = WordVectors(("a", "b", "c"), np.eye(3, dtype=np.float32))
    assert score_analogies(vectors, [("a", "b", "c", "a")]).correct == 0
    assert vectors.analogy("a", "b", "c") == []


def test_an_unknown_word_names_the_nearest() -> None:
    with pytest.raises(OrreryError, match=r"'quen' has no vector here. Did you mean 'queen'"):
        VECTORS.neighbours("quen")


def test_questions_are_read_by_section() -> None:
    text = ": capital\nAthens Greece Oslo Norway\n\n: family\nboy girl king queen\r\n: empty\n"
    assert read_questions(text) == {
        "capital": [("Athens", "Greece", "Oslo", "Norway")],
        "family": [("boy", "girl", "king", "queen")],
    }
    with pytest.raises(OrreryError, match="line 2 of the questions has 3 words"):
        read_questions("a b c d\na b c\n")
