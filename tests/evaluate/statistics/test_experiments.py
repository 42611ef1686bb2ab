from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from orrery.evaluate.statistics.power import power_of, sample_size, sample_size_for_shares, smallest_effect
from orrery.evaluate.statistics.sequential import (
    boundaries,
    crossing_probabilities,
    inflation,
    obrien_fleming,
    pocock,
    spent,
)
from orrery.evaluate.statistics.traffic import arm_of, chi_square_p, mismatch_p
from orrery.evaluate.statistics.two_samples import compare_shares
from orrery.kit.errors import OrreryError

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_sample_sizes_by_hand() -> None:
    """Half a deviation at 80%: 2 (1.960 + 0.842)^2 / 0.25 = 62.8 an arm; at 90% 84.06. 10% to 12%: 3839."""
    assert sample_size(0.5, sd_a=1) == 63 and sample_size(0.5, sd_a=1, power=0.9) == 85
    assert sample_size_for_shares(0.10, 0.12) == 3839
    assert sample_size(0.5, sd_a=1, sd_b=0) == 32  # paired: the deviation of the differences
    with pytest.raises(OrreryError, match="smallest difference that matters"):
        sample_size(0, sd_a=1)
    with pytest.raises(OrreryError, match=r"between 0 and 1, not 10"):
        sample_size_for_shares(10, 12)
    with pytest.raises(OrreryError, match="power"):
        sample_size(1, sd_a=1, power=1)


@pytest.mark.parametrize(("effect", "sd", "power"), [(0.2, 1.0, 0.8), (3.0, 5.0, 0.95), (-0.1, 0.5, 0.6)])
def test_power_and_size_and_effect_agree(effect: float, sd: float, power: float) -> None:
    n = sample_size(effect, sd_a=sd, power=power)
    assert power_of(effect, n, sd_a=sd) >= power > power_of(effect, n - 1, sd_a=sd)
    assert smallest_effect(n, sd_a=sd, power=power) == pytest.approx(abs(effect), rel=0.02)
    assert power_of(0, 100, sd_a=sd) == pytest.approx(0.05)


def test_a_planned_test_finds_what_it_was_planned_for() -> None:
    rng, n = np.random.default_rng(0), sample_size_for_shares(0.30, 0.40)
    found = [
        compare_shares(int(a), n, int(b), n).p_value < 0.05
        for a, b in zip(rng.binomial(n, 0.3, 2000), rng.binomial(n, 0.4, 2000), strict=True)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_a_split_is_sticky_fair_and_independent() -> None:
    shares, users = {"control": 1.0, "new": 1.0}, [f"user-{i}" for i in range(20_000)]
    first = [arm_of(user, shares, experiment="answers") for user in users]
    assert first == [arm_of(user, shares, experiment="answers") for user in users]
    counts = Counter(first)
    assert mismatch_p(counts, shares) > 0.001
    other = [arm_of(user, shares, experiment="buttons") for user in users]
    both = Counter(zip(first, other, strict=True))
    assert stats.chi2_contingency([[both[x, y] for y in shares] for x in shares]).pvalue > 0.001


def test_a_growing_arm_keeps_its_users() -> None:
    users = [f"user-{i}" for i in range(3000)]
    small = {u for u in users if arm_of(u, {"new": 0.05, "control": 0.95}, experiment="x") == "new"}
    large = {u for u in users if arm_of(u, {"new": 0.30, "control": 0.70}, experiment="x") == "new"}
    assert (
        small < large
        and len(small) == pytest.approx(150, abs=50)
        and len(large) == pytest.approx(900, abs=100)
    )
    assert arm_of("anyone", {"new": 0, "control": 3}, experiment="x") == "control"
    for bad in ({"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": math.nan}):
        with pytest.raises(OrreryError, match="traffic shares"):
            arm_of("anyone", bad, experiment="x")


def test_a_lossy_pipeline_shows() -> None:
    assert mismatch_p({"a": 5000, "b": 5000}, {"a": 1, "b": 1}) == 1
    assert mismatch_p({"a": 5000, "b": 4700}, {"a": 1, "b": 1}) < 0.01
    assert mismatch_p({"a": 0, "b": 0}, {"a": 1, "b": 1}) == 1
    expected = stats.chisquare([210, 190, 220], [200, 200, 220]).pvalue
    assert mismatch_p({"a": 210, "b": 190, "c": 220}, {"a": 20, "b": 20, "c": 22}) == pytest.approx(expected)
    with pytest.raises(OrreryError, match="the same arms"):
        mismatch_p({"a": 1}, {"b": 1})


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 11])
def test_chi_square(degrees: int) -> None:
    for x in (0.0, 0.3, 2.0, 15.0, 80.0):
        assert chi_square_p(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees))


def test_published_boundaries() -> None:
    """Jennison & Turnbull 2000, tables 2.1 and 2.3 (alpha 0.05); Lan & DeMets' functions at five looks."""
    assert [pocock(k)[0] for k in (1, 2, 3, 4, 5)] == pytest.approx(
        [1.960, 2.178, 2.289, 2.361, 2.413], abs=5e-4
    )
    assert [obrien_fleming(k)[-1] for k in (2, 3, 4, 5)] == pytest.approx(
        [1.977, 2.004, 2.024, 2.040], abs=6e-4
    )
    assert obrien_fleming(5) == pytest.approx([4.562, 3.226, 2.634, 2.281, 2.040], abs=1e-3)
    assert boundaries(FIVE) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert boundaries(FIVE, spending="pocock") == pytest.approx([2.438, 2.427, 2.410, 2.397, 2.386], abs=5e-4)


def test_looking_five_times_at_196_is_wrong_every_seventh_time() -> None:
    """Armitage, McPherson & Rowe 1969: 0.142 at five looks, 0.083 at two."""
    assert sum(crossing_probabilities(FIVE, [1.959964] * 5)) == pytest.approx(0.142, abs=5e-4)
    assert sum(crossing_probabilities([0.5, 1], [1.959964] * 2)) == pytest.approx(0.083, abs=5e-4)


@pytest.mark.parametrize("information", [[1.0], [0.1, 0.9, 1.0], [k / 20 for k in range(1, 21)]])
@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_what_is_spent_is_what_is_crossed(information: list[float], spending) -> None:
    bounds = boundaries(information, spending=spending)
    crossed = np.cumsum(crossing_probabilities(information, bounds))
    assert crossed == pytest.approx([spent(t, spending=spending) for t in information], abs=1e-8)
    assert crossed[-1] == pytest.approx(0.05)


def test_boundaries_hold_in_simulated_traffic() -> None:
    """20,000 tests without a difference, five looks each; and with one, planned for a power of 0.8."""
    rng, bounds = np.random.default_rng(0), np.array(boundaries(FIVE))
    steps = rng.standard_normal((20_000, 5)) * math.sqrt(0.2)
    for drift in (0.0, 2.8):
        z = np.cumsum(steps + drift * 0.2, axis=1) / np.sqrt(FIVE)
        stopped = (np.abs(z) >= bounds).any(1).mean()
        assert stopped == pytest.approx(sum(crossing_probabilities(FIVE, bounds, drift=drift)), abs=0.01)


def test_looks_cost_items() -> None:
    """Jennison & Turnbull 2000, tables 2.2 and 2.4, at power 0.9: 1.207 and 1.026."""
    assert inflation(FIVE, pocock(5), power=0.9) == pytest.approx(1.207, abs=1e-3)
    assert inflation(FIVE, obrien_fleming(5), power=0.9) == pytest.approx(1.026, abs=1e-3)


def test_looks_that_are_none() -> None:
    for bad in ([], [0.5, 0.5], [0.5, 1.2], [0.0, 1.0]):
        with pytest.raises(OrreryError, match="must rise within"):
            boundaries(bad)
    with pytest.raises(OrreryError, match="2 looks and 1 boundaries"):
        crossing_probabilities([0.5, 1], [2.0])
