"""What the exhibits of over-optimisation and of entropy say is what they measured."""

from __future__ import annotations

import pytest

from orrery.glossary.exhibits.entropy_collapse import (
    clip_higher_on_a_rare_answer,
    learning_after_the_collapse,
)
from orrery.glossary.exhibits.over_optimization import a_price_on_distance, several_proxies


def test_a_price_ends_the_search_where_the_formula_says() -> None:
    rows = a_price_on_distance().rows
    *fixed, follows = rows
    _, _, distances, proxies, golds, best, formula = zip(*fixed, strict=True)
    assert list(distances) == sorted(distances, reverse=True)  # the dearer, the nearer
    assert list(proxies) == sorted(proxies, reverse=True)
    assert golds == pytest.approx(formula, abs=0.06)
    assert golds[0] < best[0] - 0.3  # free of charge, past the top
    assert golds[2] > golds[0] and golds[2] > golds[3]  # a fair price is better than none and than a dear one
    assert follows[2] == pytest.approx(0.6, abs=0.1)


def test_proxies_that_err_differently_hold_each_other_back() -> None:
    end = {row[0]: row[2] for row in several_proxies().rows}
    assert end["one alone"] < end["mean of five"]
    assert min(end["mean less spread"], end["least of five"]) > end["one alone"] + 1


def test_who_is_certain_learns_no_more() -> None:
    rows = {row[0]: row[1:] for row in learning_after_the_collapse().rows}
    assert all(row[1] > 0.95 for row in rows.values())  # right before the change, all of them
    for plain in ("GRPO", "clip high 0.28"):
        for held in ("entropy bonus 0.05", "KL to the start 0.1"):
            assert rows[plain][0] < rows[held][0] / 3 and rows[plain][3] > rows[held][3]
            assert rows[plain][-1] < 0.5 < 0.9 < rows[held][-1]


def test_a_higher_clip_lets_the_rare_grow_faster() -> None:
    rows = clip_higher_on_a_rare_answer().rows
    after, halves = [row[1] for row in rows], [row[3] for row in rows]
    assert after == sorted(after) and halves == sorted(halves, reverse=True) and halves[0] > 2 * halves[-1]
