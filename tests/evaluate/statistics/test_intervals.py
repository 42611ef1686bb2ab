from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from orrery.evaluate.statistics.bootstrap import bootstrap, paired_bootstrap
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate, ratio_estimate, z_value
from orrery.evaluate.statistics.paired import mcnemar, paired_difference
from orrery.evaluate.statistics.proportion import wald, wilson
from orrery.evaluate.statistics.two_samples import compare_means, compare_shares
from orrery.kit.errors import OrreryError


def test_a_mean_by_hand() -> None:
    """1, 2, 3, 4: mean 2.5, deviation sqrt(5/3), error half of that."""
    found = mean_estimate([1, 2, 3, 4])
    assert (found.mean, found.n) == (2.5, 4)
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert found.high - found.mean == pytest.approx(1.959964 * found.standard_error)
    assert str(found) == "2.5 [1.235, 3.765] (n=4)"


def test_what_is_not_known_is_nan() -> None:
    assert math.isnan(mean_estimate([]).mean) and math.isnan(mean_estimate([3]).standard_error)
    assert mean_estimate([3]).mean == 3
    assert mean_estimate([3]).to_dict() == {
        "mean": 3,
        "standard_error": None,
        "low": None,
        "high": None,
        "n": 1,
    }
    assert math.isnan(ratio_estimate([], []).mean) and math.isnan(ratio_estimate([1, 2], [0, 0]).mean)
    assert math.isnan(bootstrap([]).mean) and math.isnan(bootstrap([5]).low) and bootstrap([5]).mean == 5
    with pytest.raises(OrreryError, match="between 0 and 1"):
        z_value(95)


def test_a_ratio_by_hand() -> None:
    """Bits 2 and 6 over bytes 2 and 2: R = 2, residuals -2 and 2, sqrt(2 / 1 * 8) / 4 = 1."""
    found = ratio_estimate([2, 6], [2, 2])
    assert (found.mean, found.standard_error) == (2, pytest.approx(1))
    assert ratio_estimate([3, 4, 8], [1, 1, 1]).standard_error == pytest.approx(
        mean_estimate([3, 4, 8]).standard_error
    )


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(deadline=None, max_examples=60)
def test_wilson_is_scipys(k: int, n: int, level: float) -> None:
    k = min(k, n)
    found, expected = wilson(k, n, level), stats.binomtest(k, n).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_shares_by_hand() -> None:
    """7 of 20: Wilson's published interval; 0 of 20 is not certainly 0; nothing tried, nothing known."""
    assert (wilson(7, 20).low, wilson(7, 20).high) == pytest.approx((0.1812, 0.5671), abs=1e-4)
    assert wilson(0, 20).high == pytest.approx(1.959964**2 / (20 + 1.959964**2)) and wald(0, 20).high == 0
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1) and math.isnan(wald(0, 0).mean)
    assert wald(50, 100).high == pytest.approx(0.5 + 1.959964 * 0.05)
    with pytest.raises(OrreryError, match="21 successes of 20"):
        wilson(21, 20)


def test_two_shares_by_hand() -> None:
    """40 of 100 and 55 of 100: pooled 0.475, z = 0.15 / sqrt(0.475 * 0.525 * 0.02)."""
    found = compare_shares(40, 100, 55, 100)
    assert found.difference.mean == pytest.approx(0.15)
    assert found.difference.standard_error == pytest.approx(math.sqrt(0.24 / 100 + 0.2475 / 100))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.15 / math.sqrt(0.475 * 0.525 * 0.02)))
    assert compare_shares(0, 10, 0, 10).p_value == 1 and math.isnan(compare_shares(0, 0, 1, 2).p_value)


def test_two_means() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 300), rng.normal(0.2, 2, 200)
    found = compare_means(a, b)
    assert found.difference.mean == pytest.approx(b.mean() - a.mean())
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=0.03)
    assert compare_means([1, 1], [1, 1]).p_value == 1 and compare_means([1, 1], [2, 2]).p_value == 0
    assert math.isnan(compare_means([1], [2, 3]).p_value)


def test_mcnemar_by_hand() -> None:
    """Five only the first has right, one only the second: 2 (1 + 6) / 64."""
    a, b = [1] * 5 + [0] + [1, 0], [0] * 5 + [1] + [1, 0]
    assert mcnemar(a, b) == (5, 1, pytest.approx(14 / 64))
    assert mcnemar([], []) == (0, 0, 1) and mcnemar([True, False], [True, False]).p == 1
    with pytest.raises(OrreryError, match=r"right .1. or wrong .0."):
        mcnemar([0.5], [1])
    with pytest.raises(OrreryError, match="the same items; there are 1 of one and 2 of the other"):
        mcnemar([1], [1, 0])


@given(st.integers(0, 400), st.integers(0, 400))
@settings(deadline=None, max_examples=40)
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    found = mcnemar([1] * b + [0] * c, [0] * b + [1] * c)
    assert found == (b, c, pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1))


def test_mcnemar_of_very_many_items() -> None:
    found = mcnemar([1] * 8000 + [0] * 8400, [0] * 8000 + [1] * 8400)
    assert found.p == pytest.approx(stats.binomtest(8000, 16400).pvalue)


def test_pairing_removes_what_is_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 400)
    a, b = hard + rng.normal(0, 0.1, 400), hard + 0.05 + rng.normal(0, 0.1, 400)
    found = paired_difference(a, b)
    assert found.difference.low > 0 and found.p_value < 1e-8
    again = paired_bootstrap(a, b)
    assert again.difference.standard_error == pytest.approx(found.difference.standard_error, rel=0.1)
    assert again.p_value == pytest.approx(2 / 1001)
    assert mean_estimate(a).high > mean_estimate(b).low  # side by side the two intervals overlap


def test_the_z_test_is_nearly_student_s() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random(300), rng.random(300) + 0.04
    assert paired_difference(a, b).p_value == pytest.approx(stats.ttest_rel(b, a).pvalue, rel=0.03)


def test_nothing_differs() -> None:
    assert paired_difference([1, 2], [1, 2]).p_value == 1
    assert paired_bootstrap([1, 0, 1], [1, 0, 1]).p_value == 1
    assert math.isnan(paired_bootstrap([], []).p_value) and math.isnan(paired_difference([1], [2]).p_value)


def test_the_bootstrap_knows_the_mean_s_error() -> None:
    values = np.random.default_rng(1).exponential(size=300)
    found, known = bootstrap(values, resamples=2000), mean_estimate(values)
    assert found.mean == known.mean
    assert found.standard_error == pytest.approx(known.standard_error, rel=0.06)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=0.03)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_the_bootstrap_takes_any_statistic_of_rows() -> None:
    rows = np.random.default_rng(2).integers(1, 9, (200, 2))
    found = bootstrap(rows, lambda x: float(x[:, 0].sum() / x[:, 1].sum()), resamples=2000)
    known = ratio_estimate(rows[:, 0], rows[:, 1])
    assert found.mean == pytest.approx(known.mean)
    assert found.standard_error == pytest.approx(known.standard_error, rel=0.06)
    assert bootstrap([1, 2, 3, 4, 100], np.median).mean == 3


def coverage(interval: Callable[[int, int], Estimate], n: int, truth: float = 0.3) -> float:
    """Exactly: the chance of every number of successes whose interval holds the truth."""
    held = [(e := interval(k, n)).low <= truth <= e.high for k in range(n + 1)]
    return float(stats.binom.pmf(np.arange(n + 1), n, truth) @ held)


def test_intervals_of_shares_hold_the_truth_as_often_as_promised() -> None:
    for n in (60, 200):
        assert coverage(wilson, n) == pytest.approx(0.95, abs=0.02)
        assert coverage(wald, n) == pytest.approx(0.95, abs=0.02)
    assert coverage(wilson, 12) > 0.94 and coverage(wald, 12) < 0.90  # small samples: the reason for Wilson's
    assert coverage(wilson, 30, 0.02) > 0.85 and coverage(wald, 30, 0.02) < 0.50


def test_intervals_of_means_hold_the_truth_as_often_as_promised() -> None:
    """1000 samples of a skewed variable; two standard errors of a coverage of 0.95 are 0.014."""
    rng = np.random.default_rng(3)
    samples = rng.exponential(size=(1000, 80))
    normal = np.mean([(e := mean_estimate(x)).low <= 1 <= e.high for x in samples])
    drawn = np.mean([(e := bootstrap(x, resamples=100)).low <= 1 <= e.high for x in samples[:400]])
    assert 0.92 <= normal <= 0.97 and 0.90 <= drawn <= 0.97
