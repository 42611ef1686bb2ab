"""Baselines: by hand, exact zeros, odd rewards, and what they do to the mean of a gradient, by enumeration."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.tune.rl.advantage import Baseline, advantages, spread, whiten

REWARDS = torch.tensor([1.0, 0.0, 1.0, 0.0, 4.0, 2.0])
GROUP = torch.tensor([0, 0, 0, 0, 5, 5])
KINDS: tuple[Baseline, ...] = ("none", "mean", "leave-one-out", "group", "group-centred", "global")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [1, 0, 1, 0, 4, 2]),
        ("mean", [-1 / 3, -4 / 3, -1 / 3, -4 / 3, 8 / 3, 2 / 3]),
        ("leave-one-out", [1 - 1 / 3, 0 - 2 / 3, 2 / 3, -2 / 3, 2, -2]),
        ("group-centred", [0.5, -0.5, 0.5, -0.5, 1, -1]),
        ("group", [*(x / (1 / math.sqrt(3) + 1e-4) for x in (0.5, -0.5, 0.5, -0.5)), *(x / (math.sqrt(2) + 1e-4) for x in (1, -1))]),
        ("global", [x / (math.sqrt(34 / 3 / 5) + 1e-4) for x in (-1 / 3, -4 / 3, -1 / 3, -4 / 3, 8 / 3, 2 / 3)]),
    ],
)  # fmt: skip
def test_by_hand(kind: Baseline, expected: list[float]) -> None:
    torch.testing.assert_close(
        advantages(kind, REWARDS, GROUP), torch.tensor(expected, dtype=torch.float32), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_groups_may_lie_in_any_order(kind: Baseline) -> None:
    order = torch.tensor([4, 0, 2, 5, 1, 3])
    shuffled = advantages(kind, REWARDS[order], GROUP[order])
    torch.testing.assert_close(shuffled, advantages(kind, REWARDS, GROUP)[order])


@pytest.mark.parametrize("kind", ["mean", "leave-one-out", "group", "group-centred", "global"])
def test_equal_rewards_give_exactly_nothing(kind: Baseline) -> None:
    assert advantages(kind, torch.full((3,), 0.1), torch.zeros(3, dtype=torch.int64)).tolist() == [
        0.0,
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_response_without_a_verdict_counts_nowhere(kind: Baseline) -> None:
    rewards, group = torch.tensor([1.0, math.nan, 0.0, 3.0, math.inf]), torch.tensor([0, 0, 0, 1, 1])
    found = advantages(kind, rewards, group)
    kept = [0, 2, 3]
    assert found[[1, 4]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found[kept], advantages(kind, rewards[kept], group[kept]))


def test_one_response_alone_and_a_huge_reward() -> None:
    alone = torch.tensor([3]), torch.tensor([0.7])
    for kind in ("leave-one-out", "group", "group-centred", "global"):
        assert advantages(kind, alone[1], alone[0]).tolist() == [0.0]
    huge = advantages("group", torch.tensor([1e30, 0.0, 0.0]), torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(huge, torch.tensor([2.0, -1.0, -1.0]) / math.sqrt(3))


def test_whitening_tokens() -> None:
    found = whiten(torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0.0, 1.0]) / 1.0001)
    assert whiten(torch.tensor([2.5])).tolist() == [0.0]


def test_spread() -> None:
    rewards = torch.tensor([1.0, 3.0, math.nan, 5.0, math.nan])
    assert spread(rewards, torch.tensor([0, 0, 0, 7, 9])).tolist() == [2.0, 0.0, 0.0]


def policy_gradient(
    logits: torch.Tensor, rewards: torch.Tensor, kind: Baseline, samples: int
) -> torch.Tensor:
    """E[mean_i A_i grad log pi(a_i)] over every way that `samples` actions can be drawn, exactly."""
    p = logits.softmax(0)
    scores = torch.eye(len(p), dtype=p.dtype) - p  # row a: grad log pi(a)
    group = torch.zeros(samples, dtype=torch.int64)
    total = torch.zeros_like(p)
    for drawn in itertools.product(range(len(p)), repeat=samples):
        actions = torch.tensor(drawn)
        a = advantages(kind, rewards[actions], group)
        total += p[actions].prod() * (a[:, None] * scores[actions]).mean(0)
    return total


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), samples=st.sampled_from([2, 3]))
def test_the_mean_gradient_on_a_bandit_by_enumeration(seed: int, samples: int) -> None:
    """ "none" and "leave-one-out" are unbiased; a mean with the response in it shrinks by (G - 1) / G."""
    logits, rewards = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p = logits.softmax(0)
    exact = p * (rewards - p @ rewards)  # gradient of the expected reward
    for kind, factor in (
        ("none", 1.0),
        ("leave-one-out", 1.0),
        ("group-centred", (samples - 1) / samples),
        ("mean", (samples - 1) / samples),
    ):
        torch.testing.assert_close(
            policy_gradient(logits, rewards, kind, samples), factor * exact, rtol=0, atol=1e-9
        )


def test_dividing_by_the_deviation_is_not_a_multiple_of_the_gradient() -> None:
    """GRPO's bias that Dr. GRPO takes out: the direction itself changes where actions are worth different amounts."""
    logits = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    rewards = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    exact = policy_gradient(logits, rewards, "none", 3)
    cosines = {
        kind: float(torch.cosine_similarity(policy_gradient(logits, rewards, kind, 3), exact, dim=0))
        for kind in ("group", "group-centred")
    }
    assert cosines["group-centred"] == pytest.approx(1, abs=1e-9)
    assert cosines["group"] < 0.99
