"""Claims, their support in a source, and where faithfulness and factuality disagree."""

from __future__ import annotations

import math

import pytest

from orrery.evaluate.truth.ask import Answer, Question
from orrery.evaluate.truth.claims import split_claims, split_sentences
from orrery.evaluate.truth.factuality import cell, cross_table, factuality
from orrery.evaluate.truth.faithfulness import faithfulness, fit_threshold, mean_faithfulness
from orrery.evaluate.truth.support import choice_support, likelihood_support
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Score
from orrery.text import TokenizerConfig, train_tokenizer

SOURCE = (
    "Mary Anning found her first ichthyosaur in 1811. She sold fossils in Lyme Regis to pay her debts. "
    "The Geological Society did not admit women."
)


def test_sentences_and_claims() -> None:
    assert split_sentences("Dr. J. R. Hall left. He came back at 3.5 p.m. Then?") == [
        "Dr. J. R. Hall left.", "He came back at 3.5 p.m.", "Then?"]  # fmt: skip
    assert split_claims("Ann wrote it, and she sold it in Rome; nobody knew it. Why?\n- It rained\n2. But Bob slept") == [
        "Ann wrote it", "she sold it in Rome", "nobody knew it.", "It rained", "But Bob slept"]  # fmt: skip
    assert split_claims("Anne and Bob wrote it.") == ["Anne and Bob wrote it."]
    assert split_claims("He was tall; very thin.") == ["He was tall, very thin."]
    assert split_claims("  \n") == []


@pytest.mark.parametrize(
    ("claim", "supported"),
    [
        ("Mary Anning found an ichthyosaur in 1811.", True),
        ("Anning sold fossils in Lyme Regis.", True),
        ("Mary Anning found an ichthyosaur in 1812.", False),
        ("Anning sold fossils in London.", False),
        ("The Geological Society admitted women.", False),
        ("The Geological Society did not admit women.", True),
        ("She found a meteorite on the moor.", False),
        ("Fossils were sold to pay debts.", True),
    ],
)
def test_overlap_support(claim: str, supported: bool) -> None:
    (judged,) = faithfulness(claim, SOURCE).claims
    assert judged.supported is supported


def test_faithfulness_counts_judged_claims() -> None:
    result = faithfulness("Mary Anning found an ichthyosaur in 1811. She was born in Paris. It was.", SOURCE)
    assert [claim.supported for claim in result.claims] == [True, False, None]
    assert (result.score, result.judged, result.unsupported) == (0.5, 2, ("She was born in Paris.",))
    assert math.isnan(faithfulness("It was.", SOURCE).score)
    whole = faithfulness("Mary Anning found an ichthyosaur in 1811.", SOURCE)
    mean = mean_faithfulness([result, whole, faithfulness("", SOURCE)])
    assert (mean.mean, mean.n) == (pytest.approx(2 / 3), 2)


def test_a_judge_is_any_function() -> None:
    seen = []

    def judge(source: str, claim: str) -> float | None:
        seen.append(claim)
        return {"A is b.": 0.9, "C is d.": 0.1}.get(claim)

    result = faithfulness("A is b. C is d. E is f.", "s", support=judge, threshold=0.5)
    assert seen == ["A is b.", "C is d.", "E is f."]
    assert [claim.supported for claim in result.claims] == [True, False, None]


def test_a_threshold_is_fitted_on_labelled_claims() -> None:
    """At 0.88 three of three supported and two of three others fall right."""
    values = [0.95, 0.98, 0.9, 0.86, 0.85, 0.99]
    labels = [True, True, True, False, False, False]
    assert fit_threshold(values, labels) == pytest.approx(0.88)
    with pytest.raises(OrreryError, match="both kinds"):
        fit_threshold([0.5], [True])


class Echo:
    """Tokens that came before cost 0.1 nats, others 3."""

    def score(self, requests):
        out = []
        for r in requests:
            tail = r.ids[r.start :]
            nats = sum(0.1 if token in r.ids[: r.start] else 3.0 for token in tail)
            out.append(Score(nats=nats, tokens=len(tail), bytes=len(tail)))
        return out


def test_likelihood_support_by_hand() -> None:
    """Two nats less a token with the source: 1 - exp(-2). A source that makes it less likely supports nothing."""

    class Table:
        def score(self, requests):
            with_source, without = requests
            assert tokenizer.decode(with_source.ids[: with_source.start]) == "Read.\n\nTherefore:"
            assert tokenizer.decode(without.ids) == "Therefore: yes"
            n = len(without.ids) - without.start
            assert n == len(with_source.ids) - with_source.start
            return [Score(nats=self.given * n, tokens=n, bytes=4), Score(nats=3.0 * n, tokens=n, bytes=4)]

    tokenizer = train_tokenizer(
        ["Read. Therefore: yes"] * 3, TokenizerConfig(vocab_size=300, special_tokens=(), bos=None, eos=None)
    )
    lm = Table()
    support = likelihood_support(lm, tokenizer)
    lm.given = 1.0
    assert support("Read.", "yes") == pytest.approx(1 - math.exp(-2))
    lm.given = 4.0
    assert support("Read.", "yes") == 0.0


def test_choice_support_by_hand() -> None:
    support = choice_support(Echo(), lambda source, claim: [7, 8], yes=[7], no=[9])
    assert support("s", "c") == pytest.approx(1 / (1 + math.exp(0.1 - 3.0)))


def test_factuality_and_faithfulness_disagree() -> None:
    """The source is wrong. Who repeats it is faithful and not factual; who knows better is factual and not faithful."""
    wrong_source = "The capital of Australia is Sydney. The capital was founded in 1913."
    question = Question(
        question="What is the capital of Australia?", answers=("Canberra",), passage=wrong_source
    )
    texts = [
        "The capital of Australia is Sydney.",
        "The capital of Australia is Canberra.",
        "Australia has Melbourne as capital.",
    ]
    answers = [Answer(question=question, text=text, confidence=1.0) for text in texts]
    judged = [faithfulness(a.text, question.passage) for a in answers]
    assert [cell(a, f) for a, f in zip(answers, judged, strict=True)] == [
        "faithful only",
        "factual only",
        "neither",
    ]
    assert mean_faithfulness(judged).mean == pytest.approx(1 / 3)
    assert factuality(answers).told.mean == pytest.approx(1 / 3)
    assert cross_table(list(zip(answers, judged, strict=True))) == {
        "factual and faithful": 0, "factual only": 1, "faithful only": 1, "neither": 1}  # fmt: skip


def test_factuality_leaves_out_what_it_cannot_score() -> None:
    gold = Question(question="?", answers=("Canberra",))
    texts = ["Canberra", "It is Canberra.", "Sydney", "I don't know", ""]
    rows = [Answer(question=gold, text=text, confidence=1.0) for text in texts]
    rows.append(Answer(question=Question(question="?"), text="anything", confidence=1.0))
    found = factuality(rows)
    assert (found.told.mean, found.exact.mean, found.told.n) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        3,
    )
    assert (found.withheld, found.unscored) == (1, 2)
