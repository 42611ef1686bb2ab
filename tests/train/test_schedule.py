"""Schedules at the beginning, the middle and the end, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError
from orrery.train.schedule import (
    WSD,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    Restarts,
    Schedule,
    Step,
    lr_at,
    steps_of,
)


def at(schedule: Any, *steps: int, total: int = 100) -> list[float]:
    return [lr_at(schedule, step, total) for step in steps]


def test_warmup_is_linear_and_starts_above_zero() -> None:
    assert at(Constant(warmup=4), 0, 1, 2, 3, 4, 99) == [0.25, 0.5, 0.75, 1, 1, 1]
    assert at(Constant(warmup=0.04), 0, 3) == [0.25, 1]  # a share of the run
    assert at(Constant(), 0) == [1]


def test_linear() -> None:
    assert at(Linear(), 0, 25, 50, 100) == [1, 0.75, 0.5, 0]
    assert at(Linear(warmup=20, floor=0.5), 20, 60, 100) == [1, 0.75, 0.5]


def test_cosine() -> None:
    assert at(Cosine(), 0, 50, 100) == pytest.approx([1, 0.5, 0])
    assert at(Cosine(), 25) == pytest.approx([0.5 + math.sqrt(2) / 4])
    assert at(Cosine(warmup=20, floor=0.1), 20, 60, 100, 500) == pytest.approx([1, 0.55, 0.1, 0.1])


def test_wsd() -> None:
    assert at(WSD(warmup=10, decay=0.2), 9, 50, 80, 90, 95, 100) == pytest.approx([1, 1, 1, 0.5, 0.25, 0])
    assert at(WSD(decay=20, shape="1-sqrt", floor=0.1), 80, 85, 100) == pytest.approx([1, 0.55, 0.1])
    assert at(WSD(decay=0), 99) == [1]


def test_restarts() -> None:
    assert at(Restarts(cycle=10), 0, 5, 10, 15, 20) == pytest.approx([1, 0.5, 1, 0.5, 1])
    # Cycles of 10, 20, 40: the second runs from 10 to 30, the third from 30 to 70.
    doubling = Restarts(cycle=10, growth=2.0, floor=0.2)
    assert at(doubling, 0, 5, 10, 20, 30, 50) == pytest.approx([1, 0.6, 1, 0.6, 1, 0.6])
    assert at(Restarts(warmup=4, cycle=10), 3, 4, 9, 14) == pytest.approx([1, 1, 0.5, 1])


def test_step() -> None:
    assert at(Step(milestones=(0.5, 75), factor=0.1), 49, 50, 74, 75, 100) == pytest.approx(
        [1, 0.1, 0.1, 0.01, 0.01]
    )


def test_inverse_sqrt() -> None:
    """With the warmup as time scale: sqrt(W / s), as in the transformer's own schedule."""
    assert at(InverseSqrt(warmup=4), 3, 4, 16, 64) == pytest.approx([1, 1, 0.5, 0.25])
    assert at(InverseSqrt(warmup=0, timescale=10), 0, 30) == pytest.approx([1, 0.5])


SCHEDULES = st.one_of(
    st.builds(Constant, warmup=st.integers(0, 20)),
    st.builds(Linear, warmup=st.integers(0, 20), floor=st.floats(0, 1)),
    st.builds(Cosine, warmup=st.floats(0, 0.5), floor=st.floats(0, 1)),
    st.builds(
        WSD,
        warmup=st.integers(0, 20),
        decay=st.floats(0, 0.5),
        shape=st.sampled_from(["linear", "1-sqrt"]),
        floor=st.floats(0, 1),
    ),
    st.builds(
        Restarts,
        warmup=st.integers(0, 20),
        cycle=st.integers(0, 50),
        growth=st.floats(1, 3),
        floor=st.floats(0, 1),
    ),
    st.builds(Step, warmup=st.integers(0, 20), factor=st.floats(0, 1)),
    st.builds(InverseSqrt, warmup=st.integers(0, 20), timescale=st.none() | st.integers(0, 50)),
)


@given(schedule=SCHEDULES, total=st.integers(40, 300), share=st.floats(0, 1.5))
def test_always_a_multiplier(schedule: Schedule, total: int, share: float) -> None:
    assert 0 <= lr_at(schedule, int(share * total), total) <= 1


@given(total=st.integers(10, 200), warmup=st.integers(0, 10))
def test_decays_never_rise(total: int, warmup: int) -> None:
    for schedule in (
        Linear(warmup=warmup),
        Cosine(warmup=warmup),
        WSD(warmup=warmup, decay=0.0),
        InverseSqrt(warmup=warmup),
    ):
        rates = [lr_at(schedule, s, total) for s in range(total + 1)]
        assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup:] == sorted(
            rates[warmup:], reverse=True
        )


def test_too_long_a_warmup() -> None:
    with pytest.raises(OrreryError, match="do not fit into 100 steps"):
        lr_at(Cosine(warmup=101), 0, 100)
    with pytest.raises(OrreryError, match="do not fit"):
        lr_at(WSD(warmup=50, decay=0.6), 0, 100)


def test_spans_in_a_recipe() -> None:
    """An integer is steps, a float a share; anything else is refused."""
    cosine = resolve(Schedule, {"kind": "cosine", "warmup": 100})
    assert isinstance(cosine.warmup, int) and steps_of(cosine.warmup, 1000) == 100
    cosine = resolve(Schedule, {"kind": "cosine", "warmup": 0.05})
    assert isinstance(cosine.warmup, float) and steps_of(cosine.warmup, 1000) == 50
    for wrong in (-1, 1.5, "soon"):
        with pytest.raises(OrreryError):
            resolve(Schedule, {"kind": "cosine", "warmup": wrong})
