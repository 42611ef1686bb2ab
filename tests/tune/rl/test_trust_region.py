"""Conjugate gradients and TRPO's step: exact solutions, the bound that holds, a small attention model."""

from __future__ import annotations

import pytest
import torch

from orrery.model.explicit import Explicit
from orrery.tune.rl.conjugate_gradient import conjugate_gradient
from orrery.tune.rl.trpo import trpo_step

from ..conftest import Small


def test_conjugate_gradients_solve_in_as_many_steps_as_unknowns() -> None:
    a = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = a @ a.t() + torch.eye(6), torch.arange(6, dtype=torch.float64)
    found = conjugate_gradient(lambda v: a @ v, b, iterations=6, tolerance=0.0)
    torch.testing.assert_close(found, torch.linalg.solve(a, b))
    assert conjugate_gradient(lambda v: a @ v, torch.zeros(6)).tolist() == [0.0] * 6


def test_the_step_on_a_softmax_is_the_natural_gradient_of_the_right_length() -> None:
    """F of a softmax is diag(p) - p p^T; the full step keeps the quadratic KL at delta."""
    logits = torch.tensor([0.5, -0.3, 0.0], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64)
    start = logits.detach().clone()
    old = start.log_softmax(0)
    found = trpo_step(
        [logits],
        lambda: logits.softmax(0) @ advantages,
        lambda: (old.exp() * (old - logits.log_softmax(0))).sum(),
        delta=1e-4,
        damping=1e-9,
    )
    p = old.exp()
    fisher = p.diag() - torch.outer(p, p)
    natural = torch.linalg.pinv(fisher) @ (p * (advantages - p @ advantages))
    move = logits.detach() - start
    assert found.scale in (1.0, 0.5)  # the third order decides whether the full step stays within
    expected = found.scale * (2e-4 / (natural @ fisher @ natural)).sqrt() * natural
    torch.testing.assert_close(move - move.mean(), expected - expected.mean(), rtol=0, atol=1e-6)
    assert 0 < found.kl <= 1e-4 and found.improvement > 0


@pytest.mark.parametrize("delta", [0.001, 0.01, 0.1, 1.0])
def test_the_measured_divergence_never_exceeds_the_bound(delta: float) -> None:
    generator = torch.Generator().manual_seed(1)
    states, actions = torch.randn(32, 4, generator=generator), torch.randint(3, (32,), generator=generator)
    advantages = torch.randn(32, generator=generator)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
    old = net(states).log_softmax(-1).detach()

    def surrogate() -> torch.Tensor:
        logp = net(states).log_softmax(-1)
        return ((logp - old).gather(1, actions[:, None]).squeeze(1).exp() * advantages).mean()

    def kl() -> torch.Tensor:
        return (old.exp() * (old - net(states).log_softmax(-1))).sum(-1).mean()

    before = surrogate().item()
    found = trpo_step(list(net.parameters()), surrogate, kl, delta=delta)
    assert 0 < found.kl <= delta and found.scale > 0
    assert kl().item() == pytest.approx(found.kl, abs=1e-6)
    assert surrogate().item() - before == pytest.approx(found.improvement, abs=1e-5)


def test_without_advantages_nothing_moves() -> None:
    w = torch.zeros(3, requires_grad=True)
    found = trpo_step(
        [w], lambda: (w.softmax(0) * 0).sum(), lambda: -(w.log_softmax(0).mean() + torch.tensor(3.0).log())
    )
    assert (found.scale, found.kl) == (0.0, 0.0)
    assert w.tolist() == [0.0] * 3


def test_where_no_step_is_good_the_weights_are_as_before() -> None:
    w = torch.tensor([0.3, -0.2], requires_grad=True)
    start = w.detach().clone()
    bump = lambda: -(w - start).abs().sum() + w.sum() * 1e-6  # noqa: E731 - every way is down, whatever the slope says
    found = trpo_step([w], bump, lambda: (w - start).square().sum(), halvings=3)
    assert found.scale == 0.0
    assert torch.equal(w.detach(), start)


def test_a_small_language_model_takes_the_step(small: Small) -> None:
    model = small.model()
    ids = torch.randint(small.tokenizer.vocab_size, (24,), generator=torch.Generator().manual_seed(0))
    advantages = torch.randn(23, generator=torch.Generator().manual_seed(1))

    def logprobs() -> torch.Tensor:
        return model.head(model(ids[:-1], Explicit([23]))).log_softmax(-1)

    old = logprobs().detach()
    chosen = lambda logp: logp.gather(1, ids[1:, None]).squeeze(1)  # noqa: E731
    found = trpo_step(
        [p for p in model.parameters() if p.requires_grad],
        lambda: ((chosen(logprobs()) - chosen(old)).exp() * advantages).mean(),
        lambda: (old.exp() * (old - logprobs())).sum(-1).mean(),
        delta=0.01,
    )
    assert 0 < found.kl <= 0.01 and found.improvement > 0
