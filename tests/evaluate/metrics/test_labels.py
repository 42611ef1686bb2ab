from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.evaluate.metrics.classification import accuracy, f1, precision, recall
from orrery.evaluate.metrics.likelihood import bits_per_byte, bits_per_token, perplexity
from orrery.evaluate.metrics.pass_at_k import pass_at_k, pass_to_the_k
from orrery.evaluate.metrics.roc import roc_auc, roc_curve
from orrery.evaluate.metrics.top_k import recall_at_k, top_k_error, top_k_guess_error
from orrery.kit.errors import OrreryError

labels = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1, max_size=40)


def test_by_hand() -> None:
    """Five items: TP 2, FP 1, FN 1 of "spam"."""
    predicted, actual = ["spam", "spam", "spam", "ham", "ham"], ["spam", "spam", "ham", "spam", "ham"]
    assert accuracy(predicted, actual) == 0.6
    assert precision(predicted, actual, positive="spam") == pytest.approx(2 / 3)
    assert recall(predicted, actual, positive="spam") == pytest.approx(2 / 3)
    assert f1(predicted, actual, positive="ham") == pytest.approx(0.5)
    assert f1(predicted, actual) == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_classifier_that_always_says_no_is_accurate_and_useless() -> None:
    predicted, actual = ["no"] * 100, ["yes"] + ["no"] * 99
    assert accuracy(predicted, actual) == 0.99
    assert recall(predicted, actual, positive="yes") == 0
    assert precision(predicted, actual, positive="yes") == 0
    assert math.isnan(precision(predicted, actual, positive="yes", zero_division=math.nan))
    assert recall(predicted, actual) == 0.5


@settings(deadline=None, max_examples=50)
@given(labels, st.sampled_from([0.0, 1.0]))
def test_averages_are_scikit_learns(pairs: list[tuple[str, str]], zero: float) -> None:
    predicted, actual = [p for p, _ in pairs], [a for _, a in pairs]
    for average in ("micro", "macro", "weighted"):
        expected = reference.precision_recall_fscore_support(
            actual, predicted, average=average, zero_division=zero
        )
        found = [of(predicted, actual, average=average, zero_division=zero) for of in (precision, recall, f1)]
        assert found == pytest.approx(expected[:3]), average
    assert f1(predicted, actual, average="micro") == pytest.approx(accuracy(predicted, actual))


def test_no_items() -> None:
    assert math.isnan(accuracy([], []))
    assert (precision([], []), f1([], [], average="micro"), recall([], [], average="weighted")) == (0, 0, 0)
    with pytest.raises(OrreryError, match="1 predictions for 0 items"):
        accuracy(["a"], [])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_chance_to_rank_a_pair_rightly(pairs: list[tuple[int, bool]]) -> None:
    scores, truth = [s for s, _ in pairs], [y for _, y in pairs]
    wins = [(a > b) + (a == b) / 2 for a, y in pairs if y for b, z in pairs if not z]
    if not wins:
        assert math.isnan(roc_auc(scores, truth))
        return
    assert roc_auc(scores, truth) == pytest.approx(np.mean(wins))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fpr, tpr, thresholds = reference.roc_curve(truth, scores, drop_intermediate=False)
    found = roc_curve(scores, truth)
    assert found.false_positive_rate == pytest.approx(fpr) and found.true_positive_rate == pytest.approx(tpr)
    assert found.thresholds == pytest.approx(thresholds)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(OrreryError, match="not a number"):
        roc_auc([0.1, math.nan], [0, 1])


def test_top_k_error_of_a_thousand_classes() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.standard_normal((300, 1000)), rng.integers(0, 1000, 300)
    scores[np.arange(300), truth] += 3
    for k in (1, 5):
        expected = 1 - reference.top_k_accuracy_score(truth, scores, k=k, labels=np.arange(1000))
        assert top_k_error(scores, truth, k) == pytest.approx(expected)
    guesses = np.argsort(-scores, axis=1)[:, :5].tolist()
    assert top_k_guess_error(guesses, truth.tolist()) == pytest.approx(top_k_error(scores, truth, 5))


def test_top_k_ties_go_to_the_lower_class_and_nan_comes_last() -> None:
    assert [top_k_error([[1.0, 1.0, 0.0]], [label], 1) for label in range(3)] == [0, 1, 1]
    assert top_k_error([[math.nan, -math.inf, 0.0]], [2], 1) == 0
    assert math.isnan(top_k_error(np.zeros((0, 4)), []))
    with pytest.raises(OrreryError, match="labels must be numbers from 0 to 2"):
        top_k_error([[1.0, 2.0, 3.0]], [3])


def test_recall_at_k() -> None:
    assert recall_at_k(["d3", "d1", "d9"], {"d1", "d2"}, 2) == 0.5
    assert recall_at_k(["d3"], {"d1"}, 5) == 0 and math.isnan(recall_at_k(["d3"], [], 5))


def test_pass_at_k_by_hand_and_by_drawing() -> None:
    """Two of five pass: one draw 2/5; of pairs, C(3, 2) = 3 of 10 hold no passing one."""
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    assert (pass_at_k(5, 4, 2), pass_at_k(5, 0, 5), pass_at_k(5, 5, 1)) == (1, 0, 1)
    assert pass_to_the_k(5, 4, 2) == pytest.approx(6 / 10)
    rng = np.random.default_rng(0)
    draws = rng.binomial(10, 0.3, 20_000)
    unbiased = np.mean([pass_at_k(10, int(c), 4) for c in draws])
    assert unbiased == pytest.approx(1 - 0.7**4, abs=0.01)
    with pytest.raises(OrreryError, match="pass@10 needs at least 10 samples"):
        pass_at_k(5, 2, 10)


def test_likelihood_formulas() -> None:
    assert perplexity(3 * math.log(50), 3) == pytest.approx(50)
    assert bits_per_token(10 * math.log(2), 5) == pytest.approx(2)
    assert bits_per_byte(16 * math.log(2), 8) == pytest.approx(2)
    assert perplexity(math.inf, 3) == math.inf and perplexity(1e6, 1) == math.inf
    assert all(math.isnan(of(0.0, 0)) for of in (perplexity, bits_per_token, bits_per_byte))
