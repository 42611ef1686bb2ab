"""The elementary losses against numbers worked by hand and torch's own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from orrery.train.basic_losses import binary_cross_entropy, entropy, kl_divergence, kl_estimate, mse, nll


def test_mse() -> None:
    loss = mse(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([1.0, 2.0]))
    assert (loss.sum.item(), loss.weight.item()) == (4 + 2 * 9, 3)


def test_binary_cross_entropy() -> None:
    # z = 0: log 2 whatever the label. z = log 3: p = 3/4, so -log 3/4 for label 1 and -log 1/4 for label 0.
    logits = torch.tensor([0.0, math.log(3), math.log(3)])
    loss = binary_cross_entropy(logits, torch.tensor([1.0, 1.0, 0.0]))
    assert loss.sum.item() == pytest.approx(math.log(2) - math.log(0.75) - math.log(0.25), rel=1e-6)
    far, labels = torch.tensor([-200.0, 200.0]), torch.tensor([1.0, 0.0])
    assert binary_cross_entropy(far, labels).sum.item() == 400.0
    x, y = torch.randn(50), torch.rand(50)
    expected = F.binary_cross_entropy_with_logits(x, y, reduction="sum")
    torch.testing.assert_close(binary_cross_entropy(x, y).sum, expected)


def test_nll() -> None:
    logprobs = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
    assert nll(logprobs, torch.tensor([1, 2])).sum.item() == pytest.approx(
        -math.log(0.25) - math.log(0.8), rel=1e-6
    )


def test_entropy() -> None:
    assert entropy(torch.zeros(8)).item() == pytest.approx(math.log(8))
    assert entropy(torch.tensor([math.log(3), 0.0])).item() == pytest.approx(0.562335, abs=1e-6)  # (3/4, 1/4)
    assert entropy(torch.tensor([0.0, 0.0, -math.inf])).item() == pytest.approx(math.log(2))


def test_kl_divergence() -> None:
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.75, 0.25]).log()
    # 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3)
    assert kl_divergence(p, q).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    assert kl_divergence(p, p).item() == 0
    assert kl_divergence(torch.tensor([0.0, -math.inf]), q).item() == pytest.approx(-math.log(0.75), rel=1e-6)
    assert kl_divergence(p, torch.tensor([0.0, -math.inf])).item() == math.inf
    a, b = torch.randn(5, 9), torch.randn(5, 9)
    expected = F.kl_div(b.log_softmax(-1), a.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(kl_divergence(a, b), expected)


def test_kl_estimates() -> None:
    # p = (1/2, 1/2), q = (3/4, 1/4): the expectation over p is a sum of two terms.
    logp, logq = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.75, 0.25]).log()
    exact = 0.5 * math.log(4 / 3)
    k1, k2, k3 = (kl_estimate(logp, logq, kind) for kind in ("k1", "k2", "k3"))
    assert k1.tolist() == pytest.approx([math.log(2 / 3), math.log(2)])
    assert k1.mean().item() == pytest.approx(exact, rel=1e-5) == pytest.approx(k3.mean().item(), rel=1e-5)
    assert k3.tolist() == pytest.approx([0.5 - math.log(1.5), -0.5 + math.log(2)], rel=1e-5)
    assert (k3 >= 0).all() and k1.min() < 0
    assert k2.mean().item() == pytest.approx((math.log(1.5) ** 2 + math.log(2) ** 2) / 4, rel=1e-5)
