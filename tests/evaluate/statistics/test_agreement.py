from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from orrery.evaluate.statistics.kappa import cohen_kappa, fleiss_kappa
from orrery.kit.errors import OrreryError


def test_cohen_by_hand() -> None:
    """50 items, 35 agreed; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: (0.7 - 0.5) / 0.5 = 0.4."""
    a = ["yes"] * 25 + ["no"] * 25
    b = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert (
        cohen_kappa(a, a) == 1 and math.isnan(cohen_kappa(["x"], ["x"])) and math.isnan(cohen_kappa([], []))
    )
    with pytest.raises(OrreryError, match="1 and 0 ratings"):
        cohen_kappa(["x"], [])


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=50)
def test_cohen_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    """Its weights go by the place among the labels that occur, as ours do."""
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    for weights in ("none", "linear", "quadratic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = cohen_kappa_score(a, b, weights=None if weights == "none" else weights)
        assert cohen_kappa(a, b, weights=weights) == pytest.approx(expected, nan_ok=True)


def test_fleiss_by_hand() -> None:
    """Fleiss' worked example of 14 raters, 10 items and 5 labels: 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1 and math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    with pytest.raises(OrreryError, match="the same number of ratings"):
        fleiss_kappa([[1, 2], [1, 1]])


def test_raters_who_guess_do_not_agree() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 5000).tolist(), rng.integers(0, 3, 5000).tolist()
    assert abs(cohen_kappa(a, b)) < 0.05
    assert abs(fleiss_kappa(rng.multinomial(5, [0.7, 0.2, 0.1], 2000))) < 0.05
