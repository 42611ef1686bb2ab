"""Divergences: numbers by hand, torch's kl_div, trl's generalised Jensen-Shannon, and gradients against autograd."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orrery.tune.distill.config import ForwardKl, JensenShannon, Mode, ReverseKl
from orrery.tune.distill.divergence import (
    divergence,
    forward_kl,
    jensen_shannon,
    log_probabilities,
    reverse_kl,
    with_gradient,
)

MODES: list[Mode] = [ForwardKl(), ReverseKl(), JensenShannon(), JensenShannon(beta=0.1)]


def logits(seed: int, rows: int = 5, words: int = 11, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2 * torch.randn(rows, words, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def both(seed: int = 0) -> tuple[Tensor, Tensor]:
    return logits(seed).log_softmax(-1), logits(seed + 1).log_softmax(-1)


def test_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/4, 3/4): both KLs are 1/2 log 3; m = (1/2, 1/2), and KL(p || m) = 3/4 log 3 - log 2.
    p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert forward_kl(p, q).item() == pytest.approx(0.5 * math.log(3))
    assert reverse_kl(p, q).item() == pytest.approx(0.5 * math.log(3))
    assert jensen_shannon(p, q).item() == pytest.approx(0.75 * math.log(3) - math.log(2), abs=1e-6)
    # r = (1/2, 1/2): KL(p || r) = 3/4 log 3 - log 2 and KL(r || p) = log 2 - 1/2 log 3 are two numbers.
    r = torch.tensor([[0.5, 0.5]]).log()
    assert forward_kl(p, r).item() == pytest.approx(0.130812, abs=1e-6)
    assert reverse_kl(p, r).item() == pytest.approx(0.143841, abs=1e-6)


def test_gradients_by_hand() -> None:
    # Of forward KL: q - p. Of reverse KL at p = (3/4, 1/4), q = (1/2, 1/2): r = (-log 1.5, log 2), mean m, q (r - m) = +-1/4 log 3.
    p, q = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    torch.testing.assert_close(with_gradient(ForwardKl(), p, q)[1], torch.tensor([[-0.25, 0.25]]))
    torch.testing.assert_close(
        with_gradient(ReverseKl(), p, q)[1], torch.tensor([[-0.25, 0.25]]) * math.log(3)
    )


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_value_and_gradient_are_those_of_autograd(mode: Mode) -> None:
    teacher, z = logits(3).log_softmax(-1), logits(4).requires_grad_()
    expected = divergence(mode, teacher, z.log_softmax(-1))
    (slope,) = torch.autograd.grad(expected.sum(), z)
    value, gradient = with_gradient(mode, teacher, z.detach().log_softmax(-1))
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(gradient, slope)


def test_torch_says_the_same() -> None:
    p, q = both()
    torch.testing.assert_close(forward_kl(p, q), F.kl_div(q, p, log_target=True, reduction="none").sum(-1))
    torch.testing.assert_close(reverse_kl(p, q), F.kl_div(p, q, log_target=True, reduction="none").sum(-1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_trl_says_the_same(beta: float, temperature: float) -> None:
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer

    teacher, student = logits(1)[None], logits(2)[None]
    theirs = GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=temperature, reduction="none"
    )
    mode: Mode = {0.0: ForwardKl(), 1.0: ReverseKl()}.get(beta) or JensenShannon(beta=beta)
    p, q = (log_probabilities(z[0], temperature=temperature) for z in (teacher, student))
    torch.testing.assert_close(divergence(mode, p, q), theirs[0].sum(-1), rtol=0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), beta=st.floats(0.01, 0.99))
def test_what_always_holds(seed: int, beta: float) -> None:
    p, q = both(seed)
    assert (forward_kl(p, q) >= 0).all() and (reverse_kl(p, q) >= 0).all()
    bound = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)  # the entropy of who was drawn from
    assert (jensen_shannon(p, q, beta=beta) <= bound + 1e-12).all()
    torch.testing.assert_close(jensen_shannon(p, q, beta=beta), jensen_shannon(q, p, beta=1 - beta))
    for mode in MODES:
        assert divergence(mode, p, p).abs().max() < 1e-12


def test_ends_of_jensen_shannon() -> None:
    p, q = both()
    torch.testing.assert_close(jensen_shannon(p, q, beta=1e-6) / 1e-6, forward_kl(p, q), rtol=1e-3, atol=0)
    torch.testing.assert_close(
        jensen_shannon(p, q, beta=1 - 1e-6) / 1e-6, reverse_kl(p, q), rtol=1e-3, atol=0
    )


def test_the_likeliest_tokens_alone() -> None:
    z = torch.tensor([[3.0, 1.0, 2.0, 0.0]])
    kept = log_probabilities(z, top_k=2).exp()
    e = math.exp(-1)
    torch.testing.assert_close(kept, torch.tensor([[1 / (1 + e), 0.0, e / (1 + e), 0.0]]))
    student = torch.zeros(1, 4).log_softmax(-1)
    value, gradient = with_gradient(ForwardKl(top_k=2), kept.log(), student)
    assert torch.isfinite(value).all()
    torch.testing.assert_close(gradient, student.exp() - kept)  # what the teacher left out is pushed down
    mixed, slope = with_gradient(JensenShannon(top_k=2), kept.log(), student)
    assert torch.isfinite(mixed).all() and torch.isfinite(slope).all()
    assert log_probabilities(z, top_k=9).equal(log_probabilities(z))
