from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.data.mixture import BLOCK, Mixture, shares, temperature_weights
from orrery.kit.errors import OrreryError


def test_shares_by_hand() -> None:
    assert shares([1, 1, 1], 10) == [4, 3, 3]
    assert shares([0.5, 0.3, 0.2], 10) == [5, 3, 2]
    assert shares([2, 0], 7) == [7, 0]


@pytest.mark.parametrize("weights", [[0, 0], [-1, 2], [float("nan"), 1], [1e-9, 1]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(OrreryError):
        shares(weights, 1000)


def test_temperature_by_hand() -> None:
    assert temperature_weights([100, 900], 1) == pytest.approx([0.1, 0.9])
    assert temperature_weights([100, 900], 2) == pytest.approx([0.25, 0.75])  # 10 : 30
    assert temperature_weights([100, 900], 1e9) == pytest.approx([0.5, 0.5])
    with pytest.raises(OrreryError, match="above 0"):
        temperature_weights([1, 1], 0)


@settings(max_examples=20)
@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=4), st.integers(0, 3), st.integers(0, 2 * BLOCK))
def test_rows_are_numbered_within_each_corpus_without_gaps(
    weights: list[float], seed: int, stop: int
) -> None:
    mixture = Mixture(weights, seed=seed)
    before: Counter[int] = Counter()
    for row in range(stop):
        corpus, nth = mixture.draw(row)
        assert nth == before[corpus]
        before[corpus] += 1
    assert mixture.drawn(stop) == [before[k] for k in range(len(weights))]


def test_every_block_holds_the_shares() -> None:
    mixture = Mixture([0.5, 0.3, 0.2], seed=1)
    drawn = Counter(mixture.draw(row)[0] for row in range(5 * BLOCK, 6 * BLOCK))
    assert [drawn[k] for k in range(3)] == shares([0.5, 0.3, 0.2], BLOCK)
    short = Counter(mixture.draw(row)[0] for row in range(1000))
    assert abs(short[0] / 1000 - 0.5) < 0.06  # and a short stretch nearly so


def test_one_corpus_needs_no_mixing() -> None:
    assert Mixture([3.0], seed=0).draw(10**12) == (0, 10**12)
