"""Convergence is reported, on a convex and on a non-convex problem; and what plain descent does on the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orrery.train.convergence import Convergence
from orrery.train.optim.clip import global_norm
from orrery.train.optim.sgd import SGD


def descend(
    loss: object, start: list[float], *, lr: float, momentum: float = 0.0, steps: int = 5000
) -> tuple[str | None, int, list[float]]:
    """Why descent ended, after how many steps, and where."""
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer, watch = SGD([w], lr=lr, momentum=momentum), Convergence(gradient=1e-6)
    for step in range(steps):
        optimizer.zero_grad()
        value = loss(w)  # type: ignore[operator]
        value.backward()
        reason = watch.update(value.item(), global_norm([w]))
        if reason == "stationary" or not torch.isfinite(w).all():
            return reason, step, w.tolist()
        optimizer.step()
    return None, steps, w.tolist()


def bowl(w: torch.Tensor) -> torch.Tensor:
    """(w0 - 3)^2 / 2 + 50 (w1 + 1)^2 / 2: the largest curvature is 50."""
    return ((w - torch.tensor([3.0, -1.0])).square() * torch.tensor([1.0, 50.0])).sum() / 2


def test_reaches_the_minimum_of_a_quadratic() -> None:
    reason, steps, w = descend(bowl, [0.0, 0.0], lr=0.03)
    assert reason == "stationary" and steps < 600
    assert w == pytest.approx([3.0, -1.0], abs=1e-5)


def test_diverges_above_two_over_the_curvature() -> None:
    assert descend(bowl, [0.0, 0.0], lr=0.99 * 2 / 50)[0] == "stationary"
    _, _, w = descend(bowl, [0.0, 0.0], lr=1.01 * 2 / 50, steps=2000)
    assert abs(w[1]) > 1e6


def test_momentum_needs_fewer_steps_where_curvatures_differ() -> None:
    plain, heavy = descend(bowl, [0.0, 0.0], lr=0.03), descend(bowl, [0.0, 0.0], lr=0.03, momentum=0.75)
    assert heavy[0] == "stationary" and heavy[1] < plain[1] / 3


def test_non_convex_descent_ends_in_the_nearest_valley() -> None:
    """(w^2 - 1)^2 + w / 4 has two valleys; both ends are stationary and only one is the lowest."""

    def wells(w: torch.Tensor) -> torch.Tensor:
        return ((w.square() - 1).square() + w / 4).sum()

    left, right = descend(wells, [-2.0], lr=0.01), descend(wells, [2.0], lr=0.01)
    assert left[0] == right[0] == "stationary"
    assert left[2][0] < -1 < 0.9 < right[2][0] < 1


def test_flat_when_the_loss_no_longer_falls() -> None:
    watch = Convergence(loss=1e-3, window=10)
    falling = [watch.update(10.0 - 0.1 * step, 1.0) for step in range(40)]
    assert falling == [None] * 40
    level = [watch.update(6.0 + 0.001 * (step % 2), 1.0) for step in range(40)]
    assert level[-1] == "flat" and level[0] is None


def test_variance_of_mini_batch_gradients_falls_as_one_over_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4096, generator=generator, dtype=torch.float64)

    def variance(batch: int) -> float:
        """Of d/dw mean (w - x)^2 / 2 at w = 0, over 2000 batches."""
        picks = torch.randint(len(data), (2000, batch), generator=generator)
        return (-data[picks]).mean(1).var().item()

    assert [variance(b) * b for b in (1, 4, 16, 64)] == pytest.approx([1.0] * 4, rel=0.15)
