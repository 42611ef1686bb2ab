"""Each loss by numbers worked by hand, its slope, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from orrery.tune.preference.direct import (
    apo_down,
    apo_zero,
    compared,
    dpo,
    hinge,
    implicit_rewards,
    ipo,
    robust_dpo,
)
from orrery.tune.preference.kto import kto, kto_value, prospect_value, reference_point
from orrery.tune.preference.reference_free import cpo, log1mexp, orpo, simpo

WITH_REFERENCE = (dpo, robust_dpo, ipo, hinge, apo_zero, apo_down)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("delta", "loss"), [(0, 0.693147), (5, 0.474077), (10, 0.313262), (-5, 0.974077)])
def test_dpo_of_a_margin(delta: float, loss: float) -> None:
    found = dpo(t(delta - 3.0), t(-4.0), t(-3.0), t(-4.0), beta=0.1)
    assert found.mean().item() == pytest.approx(loss, abs=1e-6)
    assert found.stats["margin"].item() == pytest.approx(0.1 * delta)


def test_dpo_by_hand_with_smoothing_and_lengths() -> None:
    """Log-ratios 1.0 and -0.6 at beta 0.5: z = 0.8, log sigma(0.8) = -0.371101, log sigma(-0.8) = -1.171101."""
    four = (t(-9.0), t(-12.6), t(-10.0), t(-12.0))
    assert dpo(*four, beta=0.5).sum.item() == pytest.approx(0.371101, abs=1e-6)
    assert dpo(*four, beta=0.5, label_smoothing=0.1).sum.item() == pytest.approx(0.451101, abs=1e-6)
    lengths = (t(2.0), t(3.0))  # means 0.5 and -0.2: z = 0.35
    assert dpo(*four, beta=0.5, lengths=lengths).sum.item() == pytest.approx(
        math.log1p(math.exp(-0.35)), abs=1e-9
    )


def test_robust_dpo_undoes_flipped_labels_on_average() -> None:
    """With a share e of labels flipped, its mean is what DPO gives on the true ones."""
    four = (t(-9.0), t(-12.6), t(-10.0), t(-12.0))
    turned = (four[1], four[0], four[3], four[2])
    kept, flipped = (robust_dpo(*x, beta=0.5, flipped=0.2).sum for x in (four, turned))
    assert (0.8 * kept + 0.2 * flipped).item() == pytest.approx(dpo(*four, beta=0.5).sum.item(), abs=1e-12)


def test_ipo_pulls_the_margin_to_its_target_from_both_sides() -> None:
    zero = t(-3.0)
    assert ipo(zero, zero, zero, zero, beta=0.1).sum.item() == pytest.approx(25.0)
    for margin, sign in ((4.0, -1), (5.0, 0), (6.0, 1)):
        won = t(-3.0 + margin).requires_grad_()
        loss = ipo(won, zero, zero, zero, beta=0.1).sum
        loss.backward()
        assert loss.item() == pytest.approx((margin - 5) ** 2)
        assert won.grad is not None and torch.sign(won.grad).item() == sign


def test_hinge_stops_at_its_margin() -> None:
    zero = t(0.0)
    assert [hinge(t(d), zero, zero, zero, beta=0.1).sum.item() for d in (0.0, 4.0, 12.0)] == pytest.approx(
        [1.0, 0.6, 0.0]
    )


def test_anchored_losses_by_hand() -> None:
    """beta r = 1 and -0.5: sigma(1) = 0.731059, sigma(-0.5) = 0.377541, sigma(1.5) = 0.817574."""
    four = (t(10.0), t(-5.0), t(0.0), t(0.0))
    assert apo_zero(*four, beta=0.1).sum.item() == pytest.approx(1 - 0.731059 + 0.377541, abs=1e-6)
    assert apo_down(*four, beta=0.1).sum.item() == pytest.approx(0.731059 + 1 - 0.817574, abs=1e-6)


def test_simpo_by_hand() -> None:
    """Means -0.5 and -1.5 a token: 2 (1.0) - 1.6 = 0.4, log(1 + e^-0.4) = 0.513015."""
    found = simpo(t(-2.0), t(-9.0), (t(4.0), t(6.0)), beta=2.0, gamma=1.6)
    assert found.sum.item() == pytest.approx(0.513015, abs=1e-6)
    assert found.stats["reward_chosen"].item() == pytest.approx(-1.0)


def test_cpo_by_hand() -> None:
    """0.1 (-2 + 9) = 0.7: log(1 + e^-0.7) = 0.403186, and half of 0.5 nats a token."""
    found = cpo(t(-2.0), t(-9.0), (t(4.0), t(6.0)), beta=0.1, alpha=0.5)
    assert found.sum.item() == pytest.approx(0.403186 + 0.25, abs=1e-6)
    assert found.stats["imitation"].item() == pytest.approx(0.25)


def test_orpo_by_hand() -> None:
    """p = 0.5 and 0.2: odds 1 and 0.25, log odds ratio log 4, log(1 + 1/4) = 0.223144; and log 2 of imitation."""
    chosen, rejected = 3 * math.log(0.5), 2 * math.log(0.2)
    found = orpo(t(chosen), t(rejected), (t(3.0), t(2.0)), weight=0.1)
    assert found.sum.item() == pytest.approx(math.log(2) + 0.1 * 0.223144, abs=1e-6)
    assert found.stats["log_odds_ratio"].item() == pytest.approx(math.log(4))


def test_log1mexp_where_either_form_alone_would_fail() -> None:
    x = t(-1e-12, -1e-3, -0.5, -1.0, -50.0).requires_grad_()
    found = log1mexp(x)
    wanted = [math.log(-math.expm1(v)) if v > -1 else math.log1p(-math.exp(v)) for v in x.tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    found.sum().backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())
    sure = torch.zeros(1, requires_grad=True)  # an answer of probability 1
    orpo(sure, torch.tensor([-1.0]), (torch.ones(1), torch.ones(1))).sum.backward()
    assert sure.grad is not None and bool(torch.isfinite(sure.grad).all())


def test_kto_by_hand() -> None:
    """beta 0.5, z = 1: up with r = 3: 1 - sigma(1) = 0.268941; down with r = -1: 1 - sigma(1), weighed 1.5."""
    policy, reference, up = t(-7.0, -11.0), t(-10.0, -10.0), torch.tensor([True, False])
    found = kto(policy, reference, up, torch.tensor(1.0), beta=0.5, undesirable=1.5)
    assert found.sum.item() == pytest.approx(0.26894142 * 2.5, abs=1e-7)
    assert found.weight.item() == 2 and found.stats["accuracy"].item() == 2
    assert reference_point(t(-9.0, -8.0), t(-10.0, -9.5)).item() == pytest.approx(1.25)
    assert reference_point(t(-12.0), t(-10.0)).item() == 0.0


def test_value_functions_bend_as_prospect_theory_says() -> None:
    gains = torch.linspace(0.1, 6, 50, dtype=torch.float64)
    for value in (kto_value, prospect_value):
        up, down = value(gains), value(-gains)
        assert bool((up.diff().diff() < 0).all()) and bool((down.diff().diff() > 0).all())
    assert bool((prospect_value(-gains).abs() > prospect_value(gains)).all())
    assert prospect_value(t(1.0, -1.0)).tolist() == [1.0, -2.25]


@pytest.mark.parametrize("loss", WITH_REFERENCE)
def test_equal_answers_teach_nothing_and_the_reference_gets_no_gradient(loss) -> None:
    """Of one answer twice the gradients cancel; a policy that is its reference has implicit rewards of 0."""
    policy, reference = t(-3.0, -7.0).requires_grad_(), t(-3.0, -7.0)
    found = loss(policy, policy, reference, reference)
    found.sum.backward()
    assert policy.grad is not None
    if loss not in (apo_zero, apo_down):
        assert policy.grad.abs().max().item() < 1e-12
    assert (
        found.stats["margin"].item() == 0 and found.stats["accuracy"].item() == 1.0
    )  # two ties, a half each
    if loss is dpo:
        assert found.mean().item() == pytest.approx(math.log(2))


def test_losses_are_sums_so_a_cut_into_micro_batches_does_not_show() -> None:
    torch.manual_seed(0)
    four = tuple(-10 * torch.rand(6, dtype=torch.float64) for _ in range(4))
    lengths = (torch.arange(1.0, 7, dtype=torch.float64), torch.arange(2.0, 8, dtype=torch.float64))
    for loss in WITH_REFERENCE:
        parts = [loss(*(x[part] for x in four)) for part in (slice(0, 2), slice(2, 6))]
        assert sum(p.sum for p in parts).item() == pytest.approx(loss(*four).sum.item(), rel=1e-12)
    for loss in (simpo, cpo, orpo):
        parts = [
            loss(four[0][p], four[1][p], (lengths[0][p], lengths[1][p])) for p in (slice(0, 2), slice(2, 6))
        ]
        assert sum(p.sum for p in parts).item() == pytest.approx(
            loss(four[0], four[1], lengths).sum.item(), rel=1e-12
        )


def test_implicit_rewards_and_ranking() -> None:
    assert implicit_rewards(t(-1.0, -5.0), t(-3.0, -4.0), beta=0.5).tolist() == [1.0, -0.5]
    found = compared(t(0.0, 0.0, 0.0), t(1.0, 2.0, 3.0), t(0.0, 2.0, 4.0))
    assert found.stats["accuracy"].item() == 1.5
