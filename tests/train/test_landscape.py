"""Slices of a loss whose shape is known, and weights left as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orrery.kit.errors import OrreryError
from orrery.train.landscape import between, line, plane, random_direction


class Bowl(nn.Module):
    """L(w) = |w|^2 / 2 for one matrix."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), value))

    def loss(self) -> float:
        return (self.weight.square().sum() / 2).item()


def test_line_between_two_checkpoints() -> None:
    """From all ones to all threes: weight 1 + 2 a, loss 2 (1 + 2 a)^2."""
    model = Bowl(1.0)
    slice_ = line(model, model.loss, between(model, Bowl(3.0)), alphas=(-0.5, 0.0, 0.5, 1.0))
    assert slice_.losses == ((0.0, 2.0, 8.0, 18.0),)
    assert (model.weight == 1.0).all()


def test_plane() -> None:
    model = Bowl()
    u, v = {"weight": torch.tensor([[1.0, 0], [0, 0]])}, {"weight": torch.tensor([[0, 2.0], [0, 0]])}
    slice_ = plane(model, model.loss, (u, v), alphas=(-1, 0, 1), betas=(0, 1))
    assert slice_.losses == ((0.5, 2.5), (0.0, 2.0), (0.5, 2.5))
    assert "loss 0 (dark) to 2.5" in slice_.drawn()


def test_random_direction_has_the_norms_of_the_weights() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4))
    direction = random_direction(model)
    assert list(direction) == ["0.weight"]
    torch.testing.assert_close(direction["0.weight"].norm(dim=1), model[0].weight.detach().norm(dim=1))
    again, other = random_direction(model), random_direction(model, seed=1)
    assert torch.equal(direction["0.weight"], again["0.weight"]) and not torch.equal(
        direction["0.weight"], other["0.weight"]
    )


def test_weights_come_back_even_when_the_loss_fails() -> None:
    model = Bowl(0.1)
    before = model.weight.detach().clone()

    def fail() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        line(model, fail, random_direction(model), alphas=(0.3,))
    assert torch.equal(model.weight, before)


def test_drawing_of_a_line_is_a_curve() -> None:
    model = Bowl(1.0)
    drawn = line(model, model.loss, between(model, Bowl(3.0)), alphas=(-1.5, -1, -0.5, 0, 0.5)).drawn(
        height=5
    )
    rows = drawn.splitlines()
    assert rows[1] == "o   o" and rows[5] == "  o  " and rows[-1] == "0  from -1.5 to 0.5"


def test_other_model() -> None:
    with pytest.raises(OrreryError, match="different weights"):
        between(Bowl(), nn.Linear(2, 2))
