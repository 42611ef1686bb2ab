"""Importance weights, values, shaping, resampling, imitation and explanations."""

from __future__ import annotations

import math

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.tune.rl.dynamic_sampling import dead_groups, informative, resample
from orrery.tune.rl.explain import explanations
from orrery.tune.rl.importance import effective_sample_size, importance_weights, off_policy_mask
from orrery.tune.rl.overlong import overlong_filter, overlong_penalty
from orrery.tune.rl.positive_examples import positive_example_loss
from orrery.tune.rl.value_loss import explained_variance, value_loss

OWNER = torch.tensor([0, 0, 1, 1])
GAP = torch.tensor([math.log(3), 0.0, math.log(0.5), math.log(0.5)])


@pytest.mark.parametrize(
    ("level", "rule", "expected", "bounded"),
    [
        ("token", "truncate", [2, 1, 0.5, 0.5], 1),
        ("token", "mask", [0, 1, 0.5, 0.5], 1),
        ("sequence", "truncate", [2, 2, 0.3, 0.3], 4),
        ("sequence", "mask", [0, 0, 0, 0], 4),
        ("geometric", "truncate", [math.sqrt(3), math.sqrt(3), 0.5, 0.5], 0),
        ("geometric", "mask", [math.sqrt(3), math.sqrt(3), 0.5, 0.5], 0),
    ],
)
def test_bounded_weights_by_hand(level: str, rule: str, expected: list[float], bounded: int) -> None:
    found = importance_weights(
        GAP - 1, torch.full((4,), -1.0), OWNER, level=level, rule=rule, low=0.3, high=2.0
    )  # type: ignore[arg-type]
    torch.testing.assert_close(found.weights, torch.tensor(expected, dtype=torch.float32))
    assert (found.bounded, found.unreadable) == (bounded, 0)


def test_the_same_policy_weighs_exactly_one() -> None:
    logprobs = torch.tensor([-1.3, -0.2, -7.0, -0.01], requires_grad=True)
    for level in ("token", "sequence", "geometric"):
        found = importance_weights(logprobs, logprobs.detach().clone(), OWNER, level=level).weights
        assert found.tolist() == [1.0] * 4 and not found.requires_grad


@pytest.mark.parametrize("odd", [math.nan, -math.inf])
@pytest.mark.parametrize("level", ["token", "sequence", "geometric"])
def test_a_token_that_cannot_be_read_is_counted_and_left_out(level: str, odd: float) -> None:
    sampler = torch.tensor([-1.0, odd, -1.0, -1.0])
    found = importance_weights(torch.full((4,), -1.0), sampler, OWNER, level=level)  # type: ignore[arg-type]
    assert found.weights.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert found.unreadable == 1


def test_a_long_drift_is_masked_as_a_sequence_and_not_as_tokens() -> None:
    trainer, owner = torch.full((8192,), -1.0), torch.zeros(8192, dtype=torch.int64)
    sampler = trainer - 1e-3
    tokens = importance_weights(trainer, sampler, owner, level="token", rule="mask")
    whole = importance_weights(trainer, sampler, owner, level="sequence", rule="mask")
    assert tokens.bounded == 0 and whole.bounded == 8192  # e^8.192 = 3612
    assert importance_weights(trainer, sampler * 100, owner, level="sequence").weights.isfinite().all()


def test_the_off_policy_mask_drops_bad_answers_the_policy_has_left() -> None:
    trainer, sampler = torch.tensor([-3.0, -3.0, -1.0, -1.0]), torch.full((4,), -1.0)
    bad, good = torch.full((4,), -1.0), torch.ones(4)
    assert off_policy_mask(trainer, sampler, bad, OWNER, threshold=1.0).tolist() == [0, 0, 1, 1]
    assert off_policy_mask(trainer, sampler, good, OWNER, threshold=1.0).tolist() == [1, 1, 1, 1]


def test_effective_sample_size() -> None:
    assert effective_sample_size(torch.ones(7)) == 7
    assert effective_sample_size(torch.tensor([1.0, 0, 0])) == 1
    assert effective_sample_size(torch.tensor([3.0, 1.0])) == pytest.approx(1.6)
    assert effective_sample_size(torch.zeros(3)) == 0


def test_reweighted_samples_have_the_mean_of_the_target() -> None:
    """By enumeration: sum_x mu(x) w(x) f(x) = sum_x pi(x) f(x)."""
    p, q, f = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5], [1.0, 5.0, -2.0]])
    w = importance_weights(p.log(), q.log(), torch.arange(3), high=100).weights
    torch.testing.assert_close((q * w * f).sum(), (p * f).sum())


def test_value_loss_by_hand() -> None:
    values = torch.tensor([1.0, 2.0, 0.0], requires_grad=True)
    returns, old = torch.tensor([2.0, 0.0, 0.1]), torch.tensor([0.5, 1.9, 0.5])
    assert value_loss(values, returns).mean().item() == pytest.approx((1 + 4 + 0.01) / 6)
    found = value_loss(values, returns, old, clip=0.2)
    # clipped to 0.7, 2.0, 0.3: squared errors 1.69, 4, 0.04, each the larger of both
    assert found.mean().item() == pytest.approx((1.69 + 4 + 0.04) / 6)
    found.sum.backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, 2.0, 0.0])
    assert int(found.stats["value_clipped"]) == 2


def test_gradients_of_the_value_loss_against_finite_differences() -> None:
    values, returns, old = torch.randn(3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(
        lambda v: value_loss(v, returns, old, clip=0.4).sum, (values.requires_grad_(),)
    )


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1
    assert explained_variance(torch.zeros(3), returns) == 0
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(3)) == 0


def test_overlong_shaping_by_hand() -> None:
    lengths = torch.tensor([0, 80, 81, 90, 100, 101, 500])
    found = overlong_penalty(lengths, limit=100, buffer=20)
    torch.testing.assert_close(found, torch.tensor([0, 0, -0.05, -0.5, -1, -1, -1]))
    assert overlong_penalty(lengths, limit=100, buffer=0).tolist() == [0, 0, 0, 0, 0, -1, -1]


def test_a_response_cut_off_may_have_no_verdict() -> None:
    found = overlong_filter(torch.tensor([1.0, 0.0]), torch.tensor([False, True]))
    assert found[0] == 1 and found[1].isnan()


def test_dead_groups() -> None:
    rewards, group = torch.tensor([1.0, 1, 0, 1, 2, math.nan]), torch.tensor([3, 3, 1, 1, 8, 8])
    assert dead_groups(rewards, group).tolist() == [False, True, True]  # groups 1, 3, 8
    assert informative(rewards, group).tolist() == [False, False, True, True, False, False]


def test_resampling_fills_the_batch() -> None:
    asked = []

    def draw(n: int, wanted: int) -> list[tuple[int, int]]:
        asked.append(wanted)
        return [(n, i % 2) for i in range(wanted)]

    found = resample(draw, lambda group: group[1] == 1, wanted=4, rounds=9)
    assert asked == [4, 2, 1, 1, 1, 1, 1, 1, 1]  # a draw of one is dead here: the rounds end
    assert (len(found.groups), found.drawn) == (3, 13)
    with pytest.raises(OrreryError, match="all 4 groups had equal rewards"):
        resample(draw, lambda group: False, wanted=2, rounds=2)


def test_imitating_what_was_right() -> None:
    found = positive_example_loss(torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([True, False, True]))
    assert (found.sum.item(), found.weight.item()) == (5.0, 2.0)


def explained(rewards: list[float], advantages: list[float], log_ratio: float = 0.0) -> list[str]:
    owner = torch.tensor([0, 0, 1, 1])
    return explanations(
        rewards=torch.tensor(rewards), group=torch.tensor([0, 0]), advantages=torch.tensor(advantages, dtype=torch.float32)[owner],
        log_ratio=torch.full((4,), log_ratio), owner=owner, aggregation="sequence-mean",
    )  # fmt: skip


def test_a_loss_of_zero_is_explained() -> None:
    (first_pass,) = explained([1, 0], [0.5, -0.5])
    assert first_pass.startswith("the loss is 0 here by construction: the ratio is exactly 1")
    (dead,) = explained([1, 1], [0, 0])
    assert dead.startswith("every advantage is 0 (1 of 1 groups have equal rewards)")
    assert explained([1, 0], [0.5, -0.5], log_ratio=0.1) == []
    assert explained([1, 0], [1.0, 0.0]) == []
    assert explained([math.nan, 1], [0, 0])[0].startswith("1 of 2 rewards are not numbers")
