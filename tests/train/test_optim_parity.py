"""Every optimiser against torch's own, step by step, on weights and gradients drawn once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from orrery.train.optim.adafactor import Adafactor
from orrery.train.optim.adagrad import Adagrad
from orrery.train.optim.adam import Adam, AdamW
from orrery.train.optim.muon import Muon
from orrery.train.optim.rmsprop import RMSprop
from orrery.train.optim.sgd import SGD

Make = Callable[[list[nn.Parameter]], Optimizer]


def walk(
    make: Make, steps: int = 12, shapes: tuple[tuple[int, ...], ...] = ((6, 4), (5,))
) -> list[list[Tensor]]:
    """Weights after each step of the same sequence of gradients; a step in the middle has none for the first
    weight.
    """
    g = torch.Generator().manual_seed(1)
    weights = [nn.Parameter(torch.randn(shape, generator=g)) for shape in shapes]
    optimizer = make(weights)
    trail = []
    for step in range(steps):
        for w in weights:
            w.grad = torch.randn(w.shape, generator=g) * (1 + step % 3)
        if step == 5 and len(weights) > 1:
            weights[0].grad = None
        optimizer.step()
        trail.append([w.detach().clone() for w in weights])
    return trail


PAIRS: list[tuple[str, Make, Make]] = [
    ("sgd", lambda p: SGD(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    (
        "momentum",
        lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    (
        "nesterov",
        lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ),
    (
        "adagrad",
        lambda p: Adagrad(p, lr=0.1, weight_decay=0.01),
        lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.01),
    ),
    (
        "rmsprop",
        lambda p: RMSprop(p, lr=0.01, weight_decay=0.01),
        lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.01),
    ),
    (
        "rmsprop-momentum",
        lambda p: RMSprop(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
    ),
    (
        "adam",
        lambda p: Adam(p, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    ),
    (
        "adamw",
        lambda p: AdamW(p, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1),
    ),
    (
        "adamw-fused",
        lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_equals_torch_step_by_step(ours: Make, theirs: Make) -> None:
    for mine, expected in zip(walk(ours), walk(theirs), strict=True):
        for a, b in zip(mine, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adafactor_equals_torch(decay: float) -> None:
    """torch schedules lr by min(lr, 1 / sqrt(t)) inside; a constant lr below that is the same rule."""
    ours = walk(lambda p: Adafactor(p, lr=0.01, weight_decay=decay))
    theirs = walk(lambda p: torch.optim.Adafactor(p, lr=0.01, eps=(1e-30, 1e-3), weight_decay=decay))
    for mine, expected in zip(ours, theirs, strict=True):
        for a, b in zip(mine, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("scale", ["rms", "spectral"])
def test_muon_equals_torch_at_bf16(shape: tuple[int, int], scale: Any) -> None:
    """torch iterates in bf16 only; in the same precision both make the same steps up to its rounding."""
    adjust = {"rms": "match_rms_adamw", "spectral": "original"}[scale]
    ours = walk(lambda p: Muon(p, lr=0.02, ns_dtype="bfloat16", scale=scale, weight_decay=0.1), 4, (shape,))
    theirs = walk(
        lambda p: torch.optim.Muon(p, lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn=adjust),
        4,
        (shape,),
    )
    for (mine,), (expected,) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, atol=2e-3, rtol=0)
    moved = (ours[-1][0] - ours[0][0]).abs().mean()
    assert moved > 0.005  # so that agreement to 2e-3 says something


def test_adafactor_by_hand() -> None:
    """First step: b_1 = 0, so R = (12.5, 2.5), C = (5, 10), mean(R) = 7.5 for g^2 = [[9, 16], [1, 4]]."""
    w = nn.Parameter(torch.zeros(2, 2))
    w.grad = torch.tensor([[3.0, 4.0], [-1.0, 2.0]])
    Adafactor([w], lr=0.5, relative=False).step()
    rows, columns = torch.tensor([12.5, 2.5]), torch.tensor([5.0, 10.0])
    update = w.grad / (rows[:, None] * columns / 7.5).sqrt()
    update /= max(1.0, update.square().mean().sqrt().item())
    torch.testing.assert_close(w.detach(), -0.5 * update)


def test_adafactor_survives_rows_without_gradient() -> None:
    """A word that is not in the batch has a zero row: its update is zero, not 0 / 0."""
    w = nn.Parameter(torch.ones(3, 2))
    w.grad = torch.tensor([[0.0, 2.0], [0.0, 0.0], [0.0, 3.0]])
    Adafactor([w], lr=0.1).step()
    assert w.isfinite().all() and w[1].tolist() == [1.0, 1.0] and (w[:, 0] == 1).all() and w[0, 1] < 1


def test_adam_by_hand() -> None:
    """Three steps of Adam(lr=0.1) from w = 1 with gradients 1, -2, 0.5."""
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = Adam([w], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    # m = 0.1, -0.11, -0.049; v = 0.01, 0.0499, 0.051901; m^ = 1, -0.578947, -0.180812; v^ = 1, 2.507538,
    # 1.747450; so the steps are 0.1 * 1, 0.1 * -0.365608, 0.1 * -0.136781.
    for g, expected in ((1.0, 0.9), (-2.0, 0.9365608), (0.5, 0.9502388)):
        w.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        assert w.item() == pytest.approx(expected, abs=1e-6)


def test_decoupled_decay_is_not_l2() -> None:
    """With a constant gradient Adam's step does not feel an L2 term, AdamW shrinks by lr * wd."""
    adam, adamw = (walk(lambda p, make=make: make(p, lr=0.01, weight_decay=0.5)) for make in (Adam, AdamW))  # type: ignore[misc]
    assert (adam[-1][0] - adamw[-1][0]).abs().max() > 1e-3
    w = nn.Parameter(torch.tensor([2.0]))
    w.grad = torch.zeros(1)
    AdamW([w], lr=0.1, weight_decay=0.5).step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


def test_nesterov_by_hand() -> None:
    """v1 = 1, w = 1 - 0.1 (1 + 0.9) = 0.81; v2 = 0.9 + 2 = 2.9, w = 0.81 - 0.1 (2 + 0.9 * 2.9) = 0.349."""
    w = nn.Parameter(torch.tensor([1.0]))
    optimizer = SGD([w], lr=0.1, momentum=0.9, nesterov=True)
    for g, expected in ((1.0, 0.81), (2.0, 0.349)):
        w.grad = torch.tensor([g])
        optimizer.step()
        assert w.item() == pytest.approx(expected, abs=1e-6)


def test_adagrad_rate_only_falls_and_rmsprop_recovers() -> None:
    """Ten large gradients, then small ones: the step for the same small gradient shrinks for ever, or grows back."""

    def last_steps(make: Make) -> tuple[float, float]:
        w = nn.Parameter(torch.zeros(1))
        optimizer = make([w])
        positions = []
        for step in range(600):
            w.grad = torch.full((1,), 100.0 if step < 10 else 1.0)
            optimizer.step()
            positions.append(w.item())
        return abs(positions[12] - positions[11]), abs(positions[-1] - positions[-2])

    early, late = last_steps(lambda p: Adagrad(p, lr=0.1))
    assert late < early
    early, late = last_steps(lambda p: RMSprop(p, lr=0.1, alpha=0.98))
    assert late > 10 * early
