"""The start for rectifiers keeps the size of what passes through, and is a function of seed and name."""

from __future__ import annotations

import torch
from torch import nn

from orrery.model.he import draw_he
from orrery.model.vision.batch_norm import BatchNorm


def test_matrices_kernels_scales_and_shifts() -> None:
    model = nn.Sequential(nn.Linear(200, 300), BatchNorm(300))
    with torch.no_grad():
        model[1].weight.fill_(5)
        model[1].bias.fill_(5)
    draw_he(model, 0)
    assert abs(model[0].weight.std().item() / (2 / 200) ** 0.5 - 1) < 0.02
    assert model[0].bias.eq(0).all() and model[1].weight.eq(1).all() and model[1].bias.eq(0).all()
    twin = nn.Sequential(nn.Linear(200, 300), BatchNorm(300))
    draw_he(twin, 0)
    assert torch.equal(model[0].weight, twin[0].weight)
    draw_he(twin, 1)
    assert not torch.equal(model[0].weight, twin[0].weight)


def test_twenty_rectified_layers_keep_the_size() -> None:
    model = nn.Sequential(*(layer for _ in range(20) for layer in (nn.Linear(256, 256), nn.ReLU())))
    draw_he(model, 0)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    out = model(x).square().mean().sqrt().item()
    assert 0.3 < out < 3  # with half the variance it would be 0.001
