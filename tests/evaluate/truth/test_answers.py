"""Answers against gold, answers withheld, and the rates of what is made up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.truth.abstain import abstains
from orrery.evaluate.truth.alias import same, tells, words
from orrery.evaluate.truth.ask import Answer, Asking, Question, ask
from orrery.evaluate.truth.hallucination import hallucination, outcome, selective_risk
from orrery.evaluate.truth.selective import risk_coverage
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion
from orrery.text import TokenizerConfig, train_tokenizer


def answer(text: str, golds: tuple[str, ...] = (), confidence: float = 1.0) -> Answer:
    return Answer(question=Question(question="?", answers=golds), text=text, confidence=confidence)


def test_normalised_words() -> None:
    assert words("The U.S. had 1,000 cafés, at 3.5% each.") == [
        "us",
        "had",
        "1000",
        "cafes",
        "at",
        "3.5",
        "each",
    ]
    assert words("It's O’Neil's") == ["its", "oneils"]


@pytest.mark.parametrize(
    ("text", "golds", "exact", "told"),
    [
        ("Paris", ("Paris",), True, True),
        ("the paris.", ("Paris",), True, True),
        ("It is Paris, in France", ("Paris",), False, True),
        ("It is not Paris", ("Paris",), False, False),
        ("Parisian", ("Paris",), False, False),
        ("JFK", ("John F. Kennedy", "JFK"), True, True),
        ("1,969", ("1969",), True, True),
        ("19690", ("1969",), False, False),
        ("New York City", ("New York",), False, True),
        ("anything", (), False, False),
        ("?", ("!",), True, False),
    ],
)
def test_alias_matching(text: str, golds: tuple[str, ...], exact: bool, told: bool) -> None:
    assert (same(text, golds), tells(text, golds)) == (exact, told)


@pytest.mark.parametrize(
    "text",
    ["I don't know.", "I do not know the answer", "I’m not sure about that.", "Unknown", "The passage does not say.",
     "It cannot be determined from the text", "i have no idea!", "There is not enough information to answer.", "N/A"],
)  # fmt: skip
def test_abstentions(text: str) -> None:
    assert abstains(text)


@pytest.mark.parametrize(
    "text",
    [
        "Paris",
        "I don't know why, but it is 4.",
        "Paris. I do not know more.",
        "The unknown soldier",
        "Nobody",
        "",
    ],
)
def test_answers_are_no_abstentions(text: str) -> None:
    assert not abstains(text)


def test_outcomes_and_rates_by_hand() -> None:
    answers = [
        answer("Paris", ("Paris",), 0.9),
        answer("Rome", ("Paris",), 0.4),
        answer("I don't know", ("Paris",), 0.8),
        answer("", ("Paris",)),
        answer("In 1742", (), 0.6),
        answer("Nobody can say; it is unknown", (), 0.7),
    ]
    assert [outcome(a) for a in answers] == ["right", "wrong", "withheld", "unscored", "wrong", "withheld"]
    plain = hallucination(answers)
    assert (plain.rate.mean, plain.rate.n, plain.unscored) == (2 / 5, 5, 1)
    assert (plain.unanswerable.mean, plain.closed.mean, plain.accuracy.mean) == (1 / 2, 1 / 3, 1 / 3)
    assert (plain.withheld.mean, plain.coverage.mean) == (1 / 3, 3 / 5)
    careful = hallucination(answers, threshold=0.7)
    assert (careful.rate.mean, careful.accuracy.mean, careful.coverage.mean) == (0, 1 / 3, 1 / 5)
    assert math.isnan(hallucination(answers[:1]).unanswerable.mean)
    curve = selective_risk(answers)
    assert (curve.coverage, curve.risk) == ((1 / 3, 2 / 3, 1.0), (0.0, 0.5, 2 / 3))


def test_risk_coverage_by_hand() -> None:
    """Risks 0, 1/2, 1/3, 1/2 at coverage 1/4 .. 1: their mean is 1/3."""
    curve = risk_coverage([0.6, 0.9, 0.7, 0.8], [True, False, False, True])
    assert curve.threshold == (0.9, 0.8, 0.7, 0.6)
    assert curve.risk == pytest.approx((0, 1 / 2, 1 / 3, 1 / 2))
    assert curve.aurc == pytest.approx(1 / 3)
    tied = risk_coverage([0.5, 0.5, 0.9], [True, False, False])
    assert (tied.threshold, tied.answered, tied.aurc) == ((0.9, 0.5), (1, 3), pytest.approx((0 + 2 / 3) / 3))
    with pytest.raises(OrreryError, match="confidence for each"):
        risk_coverage([], [])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_risk_coverage_ends_at_the_overall_risk(pairs: list[tuple[float, bool]]) -> None:
    curve = risk_coverage([c for c, _ in pairs], [w for _, w in pairs])
    assert curve.coverage[-1] == 1.0
    assert curve.risk[-1] == pytest.approx(np.mean([w for _, w in pairs]))
    assert 0 <= curve.aurc <= 1
    assert sorted(curve.threshold, reverse=True) == list(curve.threshold)


def test_the_threshold_for_a_risk_is_careful() -> None:
    """100 sure and right answers, then coin throws: the interval at 100 of 100 ends at 3.7%."""
    rng = np.random.default_rng(0)
    confidences = [0.9 + i * 1e-4 for i in range(100)] + [0.1 + i * 1e-4 for i in range(100)]
    wrong = [False] * 100 + rng.integers(0, 2, 100).astype(bool).tolist()
    curve = risk_coverage(confidences, wrong)
    assert 0.1 < curve.threshold_for(0.05) <= 0.9
    assert curve.threshold_for(0.001) is None


def test_asking() -> None:
    class Fake:
        def generate(self, requests):
            self.requests = requests
            return [
                Completion(
                    text=" Paris ",
                    ids=(1, 2),
                    logprobs=(math.log(0.5), math.log(0.125)),
                    finish_reason="stop",
                ),
                Completion(text="", ids=(), logprobs=(), finish_reason="stop"),
            ]

    tokenizer = train_tokenizer(["Question: Where? Answer: here"], TokenizerConfig(vocab_size=300))
    lm, asking = Fake(), Asking(tokenizer=tokenizer)
    closed, read = Question(question="Capital?"), Question(question="Capital?", passage="It is Paris.")
    first, second = ask(lm, [closed, read], asking=asking)
    assert (first.text, first.confidence) == ("Paris", pytest.approx(0.25))
    assert (second.text, second.confidence) == ("", 0.0)
    texts = [tokenizer.decode(r.ids, special=False) for r in lm.requests]
    assert texts[0].endswith("Question: Capital?\nAnswer:") and texts[1].startswith("It is Paris.\n\n")
    assert lm.requests[0].sampling.temperature == 0 and lm.requests[0].stop == ("\n",)
