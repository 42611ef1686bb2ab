"""Labels by vote, and answers that a model mends itself: what is kept, what is measured, when it ends."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.tune.rl.problems import Problem
from orrery.tune.selfdata.asked import Asked
from orrery.tune.selfdata.majority import SelfConsistency, sample_majority, vote
from orrery.tune.selfdata.self_critique import Critique, sample_critiques
from orrery.tune.selfdata.speaker import Speaker, Speech
from orrery.tune.selfdata.star import Star, sample_star

from ..conftest import Small
from .scripted import Scripted


def problem(text: str, answer: str, **row: str) -> Asked:
    made = Problem(row={"question": text, **row}, prompt=text, target=answer, score="numeric", id=text)
    return Asked(text, ({"role": "user", "content": text},), made)


def test_the_majoritys_answer_is_the_label_and_its_accuracy_is_measured(small: Small) -> None:
    votes = {
        "one": ["so 3", "it is 4", "be 3", "add: 3"],  # 3 of 4 agree, and are right
        "two": ["so 5", "so 5", "so 6", "none"],  # the majority is wrong, and half agree
        "three": ["so 1", "so 2", "so 8", "more"],  # nobody agrees
    }
    speaker = Speaker(Scripted(small.tokenizer, lambda text, i: votes[text][i]).subject())
    asked = [problem("one", "3"), problem("two", "6"), problem("three", "2")]
    made = sample_majority(SelfConsistency(n=4, agreement=0.5), asked, speaker, Speech())
    assert [row["messages"][-1]["content"] for row in made.examples] == ["so 3", "so 5"]
    assert made.account.numbers["agreement"] == pytest.approx((0.75 + 0.5 + 0.25) / 3)
    assert made.account.numbers["label_accuracy"] == pytest.approx(1 / 3)
    assert made.account.numbers["pass_rate"] == pytest.approx((3 + 1 + 1) / 12)
    assert made.account.drawn == 12 and made.account.balanced
    assert made.account.filtered == {
        "no vote": 2, "outvoted": 4, "more than 1 of a prompt": 3, "too little agreement": 1,
    }  # fmt: skip
    most = sample_majority(SelfConsistency(n=4, most=3), asked[:1], speaker, Speech())
    assert len(most.examples) == 3


def test_votes_are_read_by_what_they_mean() -> None:
    one = problem("one", "18")

    def read(text: str, reads: str = "") -> Any:
        return vote(SelfConsistency(reads=reads), one, text)

    assert read("so 18.00") == read("#### 18") and read("nothing") is None
    assert read("Yes, it is.", "boolean") is True and read("  ", "exact") is None
    assert read(r"\boxed{\frac{1}{2}}", "math") == read("The answer is 1/2", "math")
    with pytest.raises(OrreryError, match="Did you mean 'numeric'"):
        SelfConsistency(reads="number")
    assert one.problem is not None
    code = Asked("c", one.messages, dataclasses.replace(one.problem, score="mbpp"))
    with pytest.raises(OrreryError, match="cannot be counted as votes"):
        vote(SelfConsistency(), code, "x")


def test_a_model_mends_its_answers_until_it_finds_no_mistake(small: Small) -> None:
    def says(text: str, i: int) -> str:
        if text.endswith("mend"):
            return "now 3" if "5" in text else "now 9"
        if text.endswith("look"):
            return "No mistakes." if "now 3" in text or "ok 6" in text else "It is wrong."
        return {"one": "so 5", "two": "ok 6", "three": "so 8"}[text.split()[1]]

    model = Scripted(small.tokenizer, lambda text, i: says(text.replace("\n\nAnswer:", ""), i))
    cfg = Critique(rounds=3, critique="look", revise="mend", pairs=True)
    asked = [problem("one", "3"), problem("two", "6"), problem("three", "8")]
    made = sample_critiques(cfg, asked, Speaker(model.subject()), Speech())
    # one: 5 is mended to 3, and then found right; two: right at once; three: right, and spoilt to 9 in all rounds
    assert [row["messages"][-1]["content"] for row in made.examples] == ["now 3", "ok 6"]
    numbers = made.account.numbers
    assert numbers["before"] == pytest.approx(2 / 3) and numbers["after"] == pytest.approx(2 / 3)
    assert numbers["mended"] == numbers["spoilt"] == pytest.approx(1 / 3)
    assert numbers["satisfied"] == pytest.approx(2 / 3) and numbers["revisions"] == pytest.approx(
        (1 + 0 + 3) / 3
    )
    assert [(pair["chosen"], pair["rejected"]) for pair in made.pairs] == [("now 3", "so 5")]
    assert made.account.filtered == {"wrong in the end": 1} and made.account.balanced
    # draft x3; look x3, mend x2; look x2, mend x1; look x1, mend x1
    assert len(model.read) == 13
    assert (
        "Question: one\n\nAnswer: so 5\n\nQuestion: look\n\nAnswer: It is wrong.\n\nQuestion: mend"
        in "\0".join(model.read)
    )


def test_of_prompts_that_nobody_can_check_what_was_changed_is_kept(small: Small) -> None:
    def says(text: str, i: int) -> str:
        if text.endswith("mend\n\nAnswer:"):
            return "" if "be short" in text else "better"
        return "wrong" if text.endswith("look\n\nAnswer:") else "draft"

    asked = [Asked(text, ({"role": "user", "content": text},)) for text in ("be short", "say more")]
    cfg = Critique(rounds=2, critique="look", revise="mend", pairs=True)
    made = sample_critiques(cfg, asked, Speaker(Scripted(small.tokenizer, says).subject()), Speech())
    assert [row["messages"][-1]["content"] for row in made.examples] == ["better"]
    assert made.account.filtered == {"unchanged": 1}  # an empty revision does not count
    assert made.account.numbers["before"] is None
    assert [pair["rejected"] for pair in made.pairs] == ["draft"]


def test_a_reason_that_speaks_of_the_hint_is_left_out(small: Small) -> None:
    told = ["The hint is 3, so 3", "add one and two, so 3", "or 3", "so 4"]

    def says(text: str, i: int) -> str:
        return told[i] if "it is" in text else "so 9"

    cfg = Star(n=4, hint="{{ prompt }} it is {{ target }}", least_words=3)
    made = sample_star(
        cfg, [problem("one", "3")], Speaker(Scripted(small.tokenizer, says).subject()), Speech()
    )
    (row,) = made.examples
    assert row["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "add one and two, so 3"},
    ]
    assert made.account.filtered == {
        "wrong": 4, "speaks of the hint": 1, "no reason given": 1, "wrong, although the answer was told": 1,
    }  # fmt: skip
    assert made.account.numbers == {"pass_rate": 0.0, "solved": 0.0, "rationalised": 1.0}
