from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as reference_log_loss

from orrery.evaluate.metrics.calibration import brier_score, ece, reliability
from orrery.evaluate.metrics.reliability_plot import reliability_svg
from orrery.evaluate.metrics.temperature_scaling import LIMITS, fit_temperature, log_loss, tempered
from orrery.kit.errors import OrreryError


def test_ece_by_hand() -> None:
    """Two bins: 0.2 said of one wrong; 0.8, 0.9, 1.0 said of two right in three: 1/4 * 0.2 + 3/4 * |2/3 - 0.9|."""
    said, right = [0.2, 0.8, 0.9, 1.0], [False, True, True, False]
    table = reliability(said, right, bins=2)
    assert [(b.low, b.high, b.n) for b in table] == [(0, 0.5, 1), (0.5, 1, 3)]
    assert ece(said, right, bins=2) == pytest.approx(0.05 + 0.75 * (0.9 - 2 / 3))
    assert brier_score(said, right) == pytest.approx((0.04 + 0.04 + 0.01 + 1) / 4)


def test_bins_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    said = rng.random(500)
    right = rng.random(500) < said**2
    for binning, strategy in (("width", "uniform"), ("mass", "quantile")):
        expected = calibration_curve(right, said, n_bins=10, strategy=strategy)
        table = [b for b in reliability(said, right, bins=10, binning=binning) if b.n]
        assert [b.accuracy for b in table] == pytest.approx(expected[0])
        assert [b.confidence for b in table] == pytest.approx(expected[1])
    assert brier_score(said, right) == pytest.approx(brier_score_loss(right, said))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50), st.integers(1, 20))
def test_every_item_is_in_one_bin(items: list[tuple[float, bool]], bins: int) -> None:
    said, right = [p for p, _ in items], [y for _, y in items]
    for binning in ("width", "mass"):
        table = reliability(said, right, bins=bins, binning=binning)
        assert sum(b.n for b in table) == len(items) and len(table) == bins
        if items:
            assert 0 <= ece(said, right, bins=bins, binning=binning) <= 1
    assert items or math.isnan(ece(said, right))


def test_planted_overconfidence_is_found_and_mended() -> None:
    """Labels drawn from softmax(z), logits said to be 3 z: the temperature is 3, and the ECE falls to that of z."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal((8000, 4)) * 1.5
    labels = np.array([rng.choice(4, p=p) for p in tempered(z)])
    fit, held_out = slice(0, 4000), slice(4000, None)
    temperature = fit_temperature(3 * z[fit], labels[fit])
    assert temperature == pytest.approx(3, rel=0.05)
    before, after = tempered(3 * z[held_out]), tempered(3 * z[held_out], temperature)
    right = before.argmax(1) == labels[held_out]
    assert (after.argmax(1) == before.argmax(1)).all()
    assert ece(before.max(1), right) > 0.15 and ece(after.max(1), right) < 0.03
    assert log_loss(3 * z[fit], labels[fit]) == pytest.approx(
        reference_log_loss(labels[fit], tempered(3 * z[fit]))
    )


def test_the_temperature_is_the_best_of_its_neighbours() -> None:
    rng = np.random.default_rng(2)
    z, labels = rng.standard_normal((300, 5)), rng.integers(0, 5, 300)
    z[np.arange(300), labels] += 1
    t = fit_temperature(z, labels)
    best = log_loss(z, labels, temperature=t)
    assert best < log_loss(z, labels, temperature=t * 1.02) and best < log_loss(
        z, labels, temperature=t / 1.02
    )


def test_limits_of_temperature() -> None:
    always_right, always_wrong = [[5.0, 0.0]] * 3, [[0.0, 5.0]] * 3
    assert fit_temperature(always_right, [0] * 3) == pytest.approx(LIMITS[0])
    assert fit_temperature(always_wrong, [0] * 3) == pytest.approx(LIMITS[1])
    with pytest.raises(OrreryError, match="at least one item"):
        fit_temperature(np.zeros((0, 3)), [])
    with pytest.raises(OrreryError, match="not finite"):
        fit_temperature([[math.inf, 0.0]], [0])


def test_what_is_no_probability_is_refused() -> None:
    for bad in (1.5, -0.1, math.nan):
        with pytest.raises(OrreryError, match="between 0 and 1"):
            ece([bad], [True])


def test_the_picture_is_svg_with_a_bar_a_bin() -> None:
    table = reliability([0.1, 0.6, 0.9], [0, 1, 0], bins=5)
    root = ET.fromstring(reliability_svg(table, title="a < b"))
    boxes = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(boxes) == 1 + 2 * 3
    ET.fromstring(reliability_svg(reliability([], [])))
