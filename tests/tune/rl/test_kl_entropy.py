"""Estimates of KL, what their gradients estimate, penalties and their size; entropy and log-probabilities by chunks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from orrery.tune.rl.entropy import adapted_coefficient, entropy_of, forking_tokens, scored
from orrery.tune.rl.kl import proportional_beta, rewards_with_kl, stepwise_beta, token_kl

LOGP = torch.tensor([-1.0, -2.0])
REFERENCE = torch.tensor([-1.5, -1.0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("k1", [0.5, -1.0]), ("k2", [0.125, 0.5]), ("k3", [math.exp(-0.5) - 0.5, math.e - 2])],
)
def test_estimators_by_hand(kind: str, expected: list[float]) -> None:
    torch.testing.assert_close(token_kl(LOGP, REFERENCE, kind), torch.tensor(expected))  # type: ignore[arg-type]


def test_a_reference_equal_to_the_policy_costs_exactly_nothing() -> None:
    for kind in ("k1", "k2", "k3"):
        assert token_kl(LOGP, LOGP.clone(), kind).abs().tolist() == [0.0, 0.0]
    assert token_kl(LOGP, torch.tensor([-math.inf, -1.0])).isfinite().all()


def gradients(kind: str, ratio: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The exact mean of an estimator's gradient, and the gradients of both divergences."""
    logits = torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64, requires_grad=True)
    logq = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64).log_softmax(0)
    old = torch.tensor([0.0, 0.2, 0.4], dtype=torch.float64).log_softmax(0) if ratio else None
    logp = logits.log_softmax(0)
    drawn_from = (logp if old is None else old).detach().exp()
    found = token_kl(logp, logq, kind, log_ratio=None if old is None else logp - old)  # type: ignore[arg-type]
    reverse = (logp.exp() * (logp - logq)).sum()
    forward = (logq.exp() * (logq - logp)).sum()
    return tuple(
        torch.autograd.grad(x, logits, retain_graph=True)[0]
        for x in ((drawn_from * found).sum(), reverse, forward)
    )  # type: ignore[return-value]


def test_what_each_estimator_pulls_towards_in_a_loss() -> None:
    for kind, which in (("k1", None), ("k2", 1), ("k3", 2)):
        found = gradients(kind)
        expected = torch.zeros(3, dtype=torch.float64) if which is None else found[which]
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-12)


def test_times_the_ratio_k3_has_the_gradient_of_the_divergence_off_policy_too() -> None:
    found, reverse, _ = gradients("k3", ratio=True)
    torch.testing.assert_close(found, reverse, rtol=0, atol=1e-12)


def test_the_penalty_in_the_reward() -> None:
    owner = torch.tensor([0, 0, 3])
    logprobs = torch.tensor([-1.0, -2.0, -1.0], requires_grad=True)
    found = rewards_with_kl(
        torch.tensor([1.0, 5.0]), logprobs, torch.tensor([-1.5, -1.0, -1.0]), owner, beta=0.1
    )
    assert not found.requires_grad
    torch.testing.assert_close(found, torch.tensor([-0.05, 1.1, 5.0]))


def test_the_size_of_the_penalty_follows_the_divergence() -> None:
    assert proportional_beta(0.2, 12.0, target=6.0, horizon=10_000, samples=512) == pytest.approx(
        0.2 * (1 + 0.2 * 0.0512)
    )
    assert proportional_beta(0.2, 6.6, target=6.0, horizon=1000, samples=100) == pytest.approx(0.2 * 1.01)
    assert proportional_beta(0.2, 0.0, target=6.0, horizon=1000, samples=100) == pytest.approx(0.2 * 0.98)
    assert [stepwise_beta(1.0, kl, target=0.03) for kl in (0.01, 0.03, 0.05)] == [0.5, 1.0, 2.0]


def test_entropy_by_hand() -> None:
    logp = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]]).log()
    torch.testing.assert_close(entropy_of(logp), torch.tensor([1.5 * math.log(2), 0.0]))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_chunks_give_the_numbers_and_gradients_of_the_whole(temperature: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 11).double()
    hidden = torch.randn(23, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (23,))
    results = []
    for chunk in (5, 100):
        found = scored(hidden, head, targets, temperature=temperature, chunk=chunk)
        loss = (found.logprobs * torch.arange(23)).sum() + 3 * found.entropy.square().sum()
        results.append((*found, *torch.autograd.grad(loss, (hidden, head.weight, head.bias))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    direct = torch.distributions.Categorical(logits=head(hidden) / temperature)
    torch.testing.assert_close(results[0][0], direct.log_prob(targets))
    torch.testing.assert_close(results[0][1], direct.entropy())


def test_gradients_of_entropy_against_finite_differences() -> None:
    hidden = torch.randn(
        4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda h: scored(h, lambda x: x, torch.arange(4), chunk=3), (hidden,))


def test_forking_tokens_are_the_least_certain() -> None:
    assert forking_tokens(torch.tensor([0.1, 2.0, 0.3, 0.2, 0.0]), 0.2).tolist() == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_the_entropy_coefficient_goes_where_it_is_needed() -> None:
    assert adapted_coefficient(0.01, 0.1, target=0.2) == pytest.approx(0.015)
    assert adapted_coefficient(0.002, 0.3, target=0.2) == 0.0
    assert adapted_coefficient(1.0, 0.1, target=0.2) == 1.0
