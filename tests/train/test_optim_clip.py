"""Clipping, and updates that a non-finite gradient cannot poison."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from orrery.train.optim import config as c
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.clip import clip_grad_norm, clip_grad_value, global_norm, guarded_step


def two(a: list[float], b: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(g))) for g in (a, b)]
    for p, g in zip(parameters, (a, b), strict=True):
        p.grad = torch.tensor(g)
    return parameters


def test_norm_is_over_all_parameters_together() -> None:
    parameters = two([3.0, 0.0], [0.0, 4.0])
    assert clip_grad_norm(parameters, 1.0) == 5.0
    assert global_norm(parameters) == pytest.approx(1.0, abs=1e-6) and global_norm(parameters) <= 1.0
    assert [p.grad.tolist() for p in parameters] == [pytest.approx([0.6, 0]), pytest.approx([0, 0.8])]


def test_small_gradients_and_no_limit_change_nothing() -> None:
    parameters = two([0.3], [0.4])
    assert clip_grad_norm(parameters, 1.0) == pytest.approx(0.5)
    assert clip_grad_norm(parameters, None) == pytest.approx(0.5)
    assert [p.grad.item() for p in parameters] == pytest.approx([0.3, 0.4])
    assert global_norm([nn.Parameter(torch.zeros(2))]) == 0.0


def test_clip_by_value() -> None:
    parameters = two([3.0, -0.2], [-7.0])
    clip_grad_value(parameters, 0.5)
    assert [p.grad.tolist() for p in parameters] == [pytest.approx([0.5, -0.2]), [-0.5]]


def test_same_as_torch() -> None:
    ours, theirs = (two([1.0, -2.0], [5.0, 0.1]) for _ in range(2))
    norm = torch.nn.utils.clip_grad_norm_(theirs, 2.0)
    assert clip_grad_norm(ours, 2.0) == pytest.approx(norm.item())
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "cfg", [c.AdamW(), c.AdamW(fused=False), c.Muon(), c.SGD(momentum=0.9), c.Adafactor()]
)
def test_a_bad_gradient_leaves_weights_and_moments_alone(cfg: c.OptimizerConfig, bad: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    optimizer = build_optimizer(layer, cfg)
    layer(torch.randn(5, 4)).square().sum().backward()
    assert guarded_step(optimizer, max_norm=1.0).applied
    before = [p.detach().clone() for p in layer.parameters()]
    state = {name: t.clone() for name, t in optimizer.state_tensors()[0].items()}
    layer.weight.grad[1, 2] = bad
    result = guarded_step(optimizer, max_norm=1.0)
    assert not result.applied and not math.isfinite(result.grad_norm)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
    after = optimizer.state_tensors()[0]
    assert after.keys() == state.keys() and all(torch.equal(after[name], state[name]) for name in state)


def test_a_spike_is_survived_with_clipping() -> None:
    """Plain descent on w^2 with one gradient a thousand times too large: unclipped it is thrown far away."""

    def distance(limit: float | None) -> float:
        w = nn.Linear(1, 1, bias=False)
        nn.init.constant_(w.weight, 1.0)
        optimizer = build_optimizer(w, c.SGD(lr=0.1))
        worst = 0.0
        for step in range(30):
            optimizer.zero_grad()
            (w.weight.square().sum() / 2 * (1000 if step == 10 else 1)).backward()
            guarded_step(optimizer, max_norm=limit)
            worst = max(worst, abs(w.weight.item()))
        return worst

    assert distance(1.0) == pytest.approx(0.9, abs=0.11) and distance(None) > 30
