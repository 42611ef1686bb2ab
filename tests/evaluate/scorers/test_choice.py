from __future__ import annotations

import time

import pytest

from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.bbh import bbh_answer
from orrery.evaluate.scorers.boolean import yes_or_no
from orrery.evaluate.scorers.choice import choice_letter
from orrery.evaluate.scorers.exact import normalise
from orrery.evaluate.scorers.samples import majority_vote


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("B", "B"), ("(B)", "B"), ("b", "B"), ("B.", "B"), ("B) 12", "B"), ("**B**", "B"), ("Option B", "B"),
        ("B\nbecause it is so", "B"), ("B: the second", "B"), ("The answer is (B).", "B"), ("the correct answer is B because A is not", "B"),
        ("Answer: B", "B"), ("**Answer:** B", "B"), ("Some steps.\nSo the answer is\n$\\boxed{B}$", "B"), (r"\boxed{\text{(B)}}", "B"),
        ("#### B", "B"), ("the answer is (A). No wait, the answer is (B).", "B"), ("I think (B) fits best", "B"), ("A", "A"),
        ("A good question that I cannot answer", None), ("I do not know", None), ("either (A) or (B)", None), ("", None),
        ("Z", None), ("The answer is a mystery", None),
    ],
)  # fmt: skip
def test_letters(text, wanted) -> None:
    assert choice_letter(text, 5) == wanted


def test_letters_stop_at_the_number_of_options() -> None:
    assert choice_letter("J", 10) == "J"
    assert choice_letter("J", 4) is None


def test_an_options_own_text_chooses_it() -> None:
    row = {"options": ["Paris", "London", "Rome"]}
    gold = ScoreContext(target=" B")
    assert find("choice")("London.", row, gold) == {"exact_match": 1.0}
    assert find("choice")("The answer is Rome.", row, gold) == {"exact_match": 0.0}
    assert find("choice")("Berlin", row, gold) == Unscored("no option chosen")
    assert isinstance(find("choice")("", row, gold), Unscored)


def test_questions_about_pictures_need_the_picture() -> None:
    row, gold = {"options": ["x", "y"], "images": ["a.png"]}, {"target": " B"}
    assert isinstance(find("pictured_choice")("B", row, ScoreContext(**gold)), Unscored)
    assert find("pictured_choice")("B", row, ScoreContext(**gold, saw_images=True)) == {"exact_match": 1.0}
    row = {"options": [], "images": ["a.png"]}
    seen = ScoreContext(target=" 12.5", saw_images=True)
    assert find("pictured_choice")("12.50 cm", row, seen) == {"exact_match": 1.0}
    seen = ScoreContext(target="a dog", saw_images=True)
    assert find("pictured_choice")("Dog", row, seen) == {"exact_match": 1.0}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Yes.", True), ("no", False), ("True", True), ("Genghis Khan had many children. So the answer is yes.", True),
        ("There is no doubt. The answer is yes.", True), ("It has never been so, no", False), ("\\boxed{No}", False),
        ("perhaps", None), ("", None), ("Yes, although no one knows", True),
    ],
)  # fmt: skip
def test_yes_or_no(text, wanted) -> None:
    assert yes_or_no(text) is wanted


def test_scores_of_yes_and_no() -> None:
    gold = ScoreContext(target=" Some fact. So the answer is no.")
    assert find("boolean")("No.", {}, gold) == {"exact_match": 1.0}
    assert find("boolean")("Yes.", {}, gold) == {"exact_match": 0.0}
    assert isinstance(find("boolean")("", {}, gold), Unscored)


def test_what_the_answer_is() -> None:
    assert bbh_answer("We see. So the answer is (B).") == "(B)"
    assert bbh_answer("the answer is False. No: the answer is True.") == "True"
    assert bbh_answer("So the answer is barn damp delmarva.\n\nQ: next") == "barn damp delmarva"
    assert bbh_answer("So the answer is **3.5**.") == "3.5"
    assert bbh_answer("nothing") is None
    score = find("bbh")
    assert score("So the answer is (b).", {}, ScoreContext(target="The answer is (B).")) == {
        "exact_match": 1.0
    }
    assert score("So the answer is B.", {}, ScoreContext(target="(B)")) == {"exact_match": 1.0}
    assert score("So the answer is ] )", {}, ScoreContext(target="] )")) == {"exact_match": 1.0}
    assert score("So the answer is valid.", {}, ScoreContext(target="invalid")) == {"exact_match": 0.0}
    assert score("valid", {}, ScoreContext(target="valid")) == {"exact_match": 1.0}
    assert isinstance(score("I reason\nfor long", {}, ScoreContext(target="valid")), Unscored)
    assert isinstance(score("", {}, ScoreContext(target="valid")), Unscored)


def test_normalised_text() -> None:
    assert normalise("The  Cat, (a Dog)!") == "cat dog"
    assert normalise("Ｆｕｌｌ width") == "full width"
    score, gold = find("exact"), ScoreContext(target="the United States")
    assert score("united states.", {}, gold) == {"exact_match": 1.0}
    assert score("USA", {"aliases": ["U.S.A.", "America"]}, gold) == {"exact_match": 1.0}
    assert score("", {}, gold) == {"exact_match": 0.0}
    assert find("verbatim")("enots ", {}, ScoreContext(target=" enots")) == {"exact_match": 1.0}
    assert find("verbatim")("Enots", {}, ScoreContext(target=" enots")) == {"exact_match": 0.0}
    assert find("contains")("I think it is Paris, France", {}, ScoreContext(target="Paris")) == {
        "contains": 1.0
    }
    assert find("contains")("comparison", {}, ScoreContext(target="Paris")) == {"contains": 0.0}


def test_majority() -> None:
    assert majority_vote(["a", "b", "b"]) == "b"
    assert majority_vote(["b", "a", "a", "b"]) == "b"  # given equally often: the first given
    assert majority_vote([None, "c", None]) == "c"
    assert majority_vote([None]) is None
    assert majority_vote([]) is None


def test_unknown_scorers_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'numeric'"):
        find("numerik")


@pytest.mark.parametrize(
    "name",
    [
        "numeric",
        "integer",
        "choice",
        "boolean",
        "math",
        "bbh",
        "exact",
        "verbatim",
        "contains",
        "f1",
        "calls",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "answer" + " " * 100_000, "answer:...." * 10_000, "\\boxed{" * 20_000, "(" * 100_000, "```" + " " * 15_000, "1" * 100_000, "1,2" * 50_000,
        "the " * 50_000, ". " * 50_000, "[" * 19_000, "f(" * 9_000, "*" * 100_000, "1 " * 50_000, "<tool_call>" * 1_500, "١/" * 9_000, "\0" * 1000,
        "(A) (B) " * 20_000, '{"a":' * 3_000, "-" * 100_000, "$" * 100_000, "1/" * 50_000, "十" * 50_000, "####" * 20_000, " and " * 20_000,
    ],
)  # fmt: skip
def test_no_text_makes_a_scorer_slow_or_fail(name, text) -> None:
    row = {"options": ["x", "y"], "ground_truth": [], "function": []}
    before = time.process_time()
    find(name)(text, row, ScoreContext(target="12 (A) yes"))
    assert time.process_time() - before < 3
