from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from orrery.evaluate.statistics.battles import Battle, models_of, read_battles, wins_table
from orrery.evaluate.statistics.bradley_terry import bradley_terry, strengths
from orrery.evaluate.statistics.elo import elo, expected_score
from orrery.evaluate.statistics.leaderboard import leaderboard
from orrery.kit.errors import OrreryError


def fought(a: str, b: str, wins: int, losses: int = 0, ties: int = 0) -> list[Battle]:
    return [Battle(a, b, "a")] * wins + [Battle(a, b, "b")] * losses + [Battle(a, b, "tie")] * ties


def drawn(truth: dict[str, float], n: int, seed: int = 0) -> list[Battle]:
    """Battles between models of known ratings."""
    rng, names = np.random.default_rng(seed), list(truth)
    battles = []
    for _ in range(n):
        a, b = rng.choice(len(names), 2, replace=False)
        won = rng.random() < expected_score(truth[names[a]], truth[names[b]])
        battles.append(Battle(names[a], names[b], "a" if won else "b"))
    return battles


def test_elo_by_hand() -> None:
    """Equal players, K = 32: the winner takes 16. Then 1016 against 984 is expected to take 0.546."""
    assert elo(fought("x", "y", 1), k=32) == {"x": 1016, "y": 984}
    assert expected_score(1016, 984) == pytest.approx(0.5459, abs=1e-4)
    after = elo(fought("x", "y", 2), k=32)
    assert after["x"] == pytest.approx(1016 + 32 * (1 - 0.54592), abs=1e-2)
    assert elo(fought("x", "y", 0, ties=3)) == {"x": 1000, "y": 1000}
    assert elo([]) == {} and expected_score(0, 1e9) < 1e-9


def test_elo_goes_on_from_ratings_and_leaves_them_alone() -> None:
    before = {"x": 1200.0}
    after = elo(fought("x", "y", 1), k=32, ratings=before)
    assert before == {"x": 1200.0} and sum(after.values()) == pytest.approx(2200)
    assert after["x"] - 1200 < 16


def test_bradley_terry_by_hand() -> None:
    """Three wins of four: odds of three, 400 log10(3) = 190.85 points apart."""
    found = bradley_terry(fought("x", "y", 3, 1), prior_sd=math.inf)
    assert found["x"] - found["y"] == pytest.approx(400 * math.log10(3))
    assert sum(found.values()) == pytest.approx(2000)
    weak = bradley_terry(fought("x", "y", 300, 100))
    assert weak["x"] - weak["y"] == pytest.approx(400 * math.log10(3), rel=1e-3)


def test_bradley_terry_is_logistic_regression() -> None:
    battles = drawn({"a": 900, "b": 1000, "c": 1050, "d": 1200}, 400)
    models = models_of(battles)
    rows = [[(name == b.a) - (name == b.b) for name in models] for b in battles]
    fit = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=1000)
    fit.fit(rows, [b.winner == "a" for b in battles])
    expected = fit.coef_[0] - fit.coef_[0].mean()
    found = strengths(wins_table(battles, models), prior_sd=math.inf)
    assert found == pytest.approx(expected, abs=1e-4)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(["a", "b", "tie"])), max_size=40)
)
@settings(deadline=None, max_examples=60)
def test_strengths_meet_the_equations_of_the_maximum(rows: list[tuple[int, int, str]]) -> None:
    """Points taken = points expected - the prior's pull, for everyone, whoever won or lost everything."""
    battles = [Battle(str(i), str(j), w) for i, j, w in rows if i != j]  # type: ignore[arg-type]
    wins = wins_table(battles, models_of(battles))
    s = strengths(wins)
    expected = ((wins + wins.T) / (1 + np.exp(s[None, :] - s[:, None]))).sum(1)
    assert wins.sum(1) == pytest.approx(expected + s / 25, abs=1e-6)
    order = list(reversed(battles))
    assert strengths(wins_table(order, models_of(order))) == pytest.approx(s)


def test_without_a_prior_separated_models_are_refused() -> None:
    with pytest.raises(OrreryError, match="never took a point"):
        bradley_terry(fought("x", "y", 3), prior_sd=math.inf)
    chain = (
        fought("a", "b", 1)
        + fought("b", "c", 1)
        + fought("c", "d", 1)
        + fought("d", "e", 1)
        + fought("e", "a", 1)
    )
    assert list(bradley_terry(chain, prior_sd=math.inf).values()) == pytest.approx([1000.0] * 5)


def test_a_leaderboard() -> None:
    battles = [*fought("x", "y", 60, 20), *fought("y", "z", 30, 28, 4), *fought("x", "z", 50, 16)]
    rows = leaderboard(battles)
    assert [row.model for row in rows] == ["x", "y", "z"]
    assert (rows[0].rank, rows[0].wins, rows[0].losses, rows[0].ties, rows[0].rating.n) == (
        1,
        110,
        36,
        0,
        146,
    )
    assert rows[1].rank == rows[2].rank == 2  # cannot be told apart
    assert rows[2].ties == 4 and rows[0].rating.low < rows[0].rating.mean < rows[0].rating.high
    assert leaderboard([]) == [] and leaderboard(battles) == rows
    assert leaderboard(battles, method="elo", k=8)[0].model == "x"


@pytest.mark.parametrize("method", ["bradley_terry", "elo"])
def test_leaderboards_find_the_planted_order(method) -> None:
    truth = {"a": 800.0, "b": 950.0, "c": 1050.0, "d": 1200.0}
    rows = leaderboard(drawn(truth, 1200), method=method, resamples=30)
    assert [row.model for row in rows] == ["d", "c", "b", "a"]


def test_intervals_of_ratings_hold_the_truth() -> None:
    truth = {"a": 850.0, "b": 1000.0, "c": 1150.0}
    held = 0
    for seed in range(20):
        for row in leaderboard(drawn(truth, 300, seed), resamples=60, seed=seed):
            held += row.rating.low <= truth[row.model] <= row.rating.high
    assert 0.85 <= held / 60 <= 1


def test_a_log_of_battles(tmp_path: Path) -> None:
    """The keys of the arena's published logs; others are left alone."""
    path = tmp_path / "battles.jsonl"
    rows = [("x", "y", "model_a"), ("y", "x", "tie (bothbad)"), ("x", "z", "model_b")]
    path.write_text(
        "\n".join(json.dumps({"model_a": a, "model_b": b, "winner": w, "turn": 1}) for a, b, w in rows)
    )
    assert read_battles(path) == [Battle("x", "y", "a"), Battle("y", "x", "tie"), Battle("x", "z", "b")]
    for bad in ('{"model_a": "x"}', "[1]", "nonsense", '{"model_a": "x", "model_b": "x", "winner": "tie"}'):
        path.write_text(bad)
        with pytest.raises(OrreryError, match=r"battles\.jsonl, line 1"):
            read_battles(path)
