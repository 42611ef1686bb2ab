"""Policy losses: hand values, where gradients are 0, gradients against finite differences, splits, odd numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from orrery.kit.errors import OrreryError
from orrery.tune.rl.aggregate import Aggregation, aggregate
from orrery.tune.rl.clipped_surrogate import clipped, clipped_surrogate
from orrery.tune.rl.explain import fractions
from orrery.tune.rl.policy_loss import PUBLISHED, Kind, policy_loss
from orrery.tune.rl.ratio import sequence_ratio, token_ratio

OWNER = torch.tensor([0, 0, 0, 1])
ADVANTAGES = torch.tensor([1.0, 1.0, 1.0, -2.0])
RATIOS = torch.tensor([1.5, 0.5, 1.0, 1.5])
KINDS = tuple(PUBLISHED)


def loss_of(kind: Kind, log_ratio: torch.Tensor, **settings: Any) -> torch.Tensor:
    settings = {"max_length": 10} | settings
    found = policy_loss(kind, log_ratio, log_ratio - 1.0, ADVANTAGES.to(log_ratio), OWNER, **settings)
    return found.mean()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [(1.5, 1.0, -1.2, 0.0), (0.5, 1.0, -0.5, -1.0), (1.5, -1.0, 1.5, 1.0), (0.5, -1.0, 0.8, 0.0)],
)
def test_the_four_cases_of_the_clipped_surrogate(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    r = torch.tensor([ratio], requires_grad=True)
    found = clipped_surrogate(r, torch.tensor([advantage]))
    found.sum().backward()
    assert found.item() == pytest.approx(loss)
    assert r.grad is not None
    assert r.grad.item() == pytest.approx(gradient)


def test_clip_higher_lets_rare_tokens_rise() -> None:
    ratio, one = torch.tensor([1.25]), torch.tensor([1.0])
    assert clipped_surrogate(ratio, one).item() == pytest.approx(-1.2)
    assert clipped_surrogate(ratio, one, clip_high=0.28).item() == pytest.approx(-1.25)


def test_the_dual_clip_bounds_what_a_bad_token_can_do() -> None:
    ratio = torch.tensor([5.0, 5.0, 2.0], requires_grad=True)
    advantages = torch.tensor([-1.0, 1.0, -1.0])
    found = clipped_surrogate(ratio, advantages, dual_clip=3.0)
    torch.testing.assert_close(found, torch.tensor([3.0, -1.2, 2.0]))
    found.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [0.0, 0.0, 1.0]
    where = clipped(ratio.detach(), advantages, dual_clip=3.0)
    assert [flags.tolist() for flags in where] == [[False] * 3, [False, True, False], [True, False, False]]


def test_what_counts_as_clipped_is_what_has_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    ratio = (0.5 * torch.randn(200, generator=generator)).exp().requires_grad_()
    advantages = torch.randn(200, generator=generator)
    clipped_surrogate(ratio, advantages, clip_high=0.28, dual_clip=2.0).sum().backward()
    low, high, dual = clipped(ratio.detach(), advantages, clip_high=0.28, dual_clip=2.0)
    assert ratio.grad is not None
    assert torch.equal(ratio.grad == 0, low | high | dual)
    assert low.any() and high.any() and dual.any()


def test_ratios() -> None:
    log_ratio = torch.tensor([0.3, -0.1, 0.1, 0.7])
    torch.testing.assert_close(token_ratio(log_ratio), log_ratio.exp())
    torch.testing.assert_close(sequence_ratio(log_ratio, OWNER), torch.tensor([0.1, 0.1, 0.1, 0.7]).exp())
    assert token_ratio(torch.tensor([1e9])).item() == pytest.approx(math.exp(20))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("token", 10 / 4),
        ("sequence-mean", (2 + 4) / 2),
        ("sequence-sum", 10 / 2),
        ("fixed-length", 10 / 2 / 8),
    ],
)
def test_aggregation_by_hand(kind: Aggregation, expected: float) -> None:
    assert aggregate(torch.tensor([1.0, 2, 3, 4]), OWNER, kind, max_length=8).mean().item() == pytest.approx(
        expected
    )


def test_a_fixed_length_must_be_given() -> None:
    with pytest.raises(OrreryError, match="give max_length"):
        aggregate(torch.ones(4), OWNER, "fixed-length")


# Token losses at clip 0.2: -1.2 (clipped), -0.5, -1.0 and +3.0 (ratio 1.5 with advantage -2).
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ppo", (-1.2 - 0.5 - 1.0 + 3.0) / 4),
        ("grpo", (-2.7 / 3 + 3.0) / 2),
        ("dr-grpo", (-2.7 + 3.0) / (2 * 10)),
        ("dapo", (-1.28 - 0.5 - 1.0 + 3.0) / 4),
        ("gspo", (-(0.75 ** (1 / 3)) + 3.0) / 2),  # the ratio of the first is 0.909: down and good, not clipped
        ("reinforce", -(math.log(0.75) - 3 - 2 * (math.log(1.5) - 1)) / 2),
        ("cispo", -(1.5 * (math.log(1.5) - 1) + 0.5 * (math.log(0.5) - 1) - 1 - 3 * (math.log(1.5) - 1)) / 4),
    ],
)  # fmt: skip
def test_each_loss_by_hand(kind: Kind, expected: float) -> None:
    assert loss_of(kind, RATIOS.log()).item() == pytest.approx(expected, abs=1e-6)


def test_cispo_holds_the_weight_and_keeps_the_gradient() -> None:
    log_ratio = torch.tensor([2.0, 0.0, 0.0, 0.0], requires_grad=True)
    loss_of("cispo", log_ratio, clip_high=1.0).backward()
    assert log_ratio.grad is not None
    torch.testing.assert_close(log_ratio.grad, torch.tensor([-2.0, -1.0, -1.0, 2.0]) / 4)  # e^2 held at 2
    held = torch.tensor([2.0, 0.0, 0.0, 0.0], requires_grad=True)
    loss_of("ppo", held).backward()
    assert held.grad is not None
    assert held.grad[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_against_finite_differences(kind: Kind) -> None:
    log_ratio = torch.tensor([0.1, -0.4, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    if kind == "cispo":  # its weight is a constant by definition
        old = log_ratio.detach().clone()
        call = lambda logp: policy_loss(kind, old, logp, ADVANTAGES.double(), OWNER).mean()  # noqa: E731
    else:
        call = lambda x: loss_of(kind, x, clip_low=0.2, clip_high=0.2)  # noqa: E731
    assert torch.autograd.gradcheck(call, (log_ratio,))


@pytest.mark.parametrize("kind", KINDS)
def test_on_policy_every_loss_has_the_gradient_of_reinforce(kind: Kind) -> None:
    """At ratio 1 they differ in the weight of tokens only: under one aggregation all are the same step."""
    logprobs = torch.tensor([-1.0, -2.0, -0.5, -3.0], requires_grad=True)
    advantages = ADVANTAGES
    found = policy_loss(kind, logprobs - logprobs.detach(), logprobs, advantages, OWNER, aggregation="token")
    found.mean().backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, -advantages / 4)
    summary = fractions(found.stats)
    assert summary["ratio_mean"] == summary["effective_sample_share"] == 1
    assert summary["kl_old"] == summary["clip_low"] == summary["clip_high"] == 0


@pytest.mark.parametrize("aggregation", ["token", "sequence-mean", "sequence-sum", "fixed-length"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_split_into_micro_batches_does_not_show(kind: Kind, aggregation: Aggregation) -> None:
    generator = torch.Generator().manual_seed(1)
    owner = torch.arange(6).repeat_interleave(torch.tensor([3, 1, 7, 2, 5, 4]))
    log_ratio, logprobs, advantages = torch.randn(3, len(owner), generator=generator, dtype=torch.float64)
    settings: dict[str, Any] = {"aggregation": aggregation, "max_length": 9}
    whole = policy_loss(kind, log_ratio, logprobs, advantages, owner, **settings)
    parts = [
        policy_loss(kind, log_ratio[m], logprobs[m], advantages[m], owner[m], **settings)
        for m in (owner < 1, (owner >= 1) & (owner < 4), owner >= 4)
    ]
    torch.testing.assert_close(sum(p.sum for p in parts), whole.sum)
    torch.testing.assert_close(sum(p.weight for p in parts), whole.weight)
    for name, value in whole.stats.items():
        torch.testing.assert_close(sum(p.stats[name] for p in parts), value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_weight_zero_may_hold_anything(kind: Kind) -> None:
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    results = []
    for odd in (0.0, math.nan, -math.inf):
        log_ratio = torch.tensor([0.1, odd, 0.2, 0.3], requires_grad=True)
        loss = loss_of(kind, log_ratio, weights=weights)
        loss.backward()
        assert log_ratio.grad is not None
        results.append((loss.item(), log_ratio.grad.tolist()))
    assert results[0] == results[1] == results[2]
    assert results[0][1][1] == 0 or kind == "gspo"


def test_a_long_sequence_slightly_off_and_a_mad_ratio_stay_finite() -> None:
    owner = torch.zeros(8192, dtype=torch.int64)
    log_ratio = torch.full((8192,), 1e-3)
    for kind in KINDS:
        for advantage in (1.0, -1.0):
            found = policy_loss(
                kind, log_ratio, log_ratio, torch.full((8192,), advantage), owner, max_length=8192
            )
            assert found.mean().isfinite()
            mad = policy_loss(
                kind, log_ratio * 1e6, log_ratio, torch.full((8192,), advantage), owner, max_length=8192
            )
            assert mad.mean().isfinite()


def test_no_tokens_is_an_error_that_says_so() -> None:
    none = torch.zeros(0)
    found = policy_loss("grpo", none, none, none, torch.zeros(0, dtype=torch.int64))
    with pytest.raises(OrreryError, match="no token of this batch carries a loss"):
        found.mean()


def test_statistics_by_hand() -> None:
    found = policy_loss("ppo", RATIOS.log(), RATIOS.log(), torch.tensor([1.0, -1.0, 1.0, -2.0]), OWNER)
    summary = fractions(found.stats)
    assert summary["clip_high"] == summary["clip_low"] == 0.25
    assert summary["ratio_mean"] == pytest.approx(4.5 / 4)
    assert summary["effective_sample_share"] == pytest.approx(4.5**2 / (4 * 5.75))
    assert summary["kl_old"] == pytest.approx((4.5 - 4 - math.log(1.5 * 0.5 * 1.5)) / 4)
