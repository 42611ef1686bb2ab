"""The start for networks of rectifiers: normal(0, 2 / fan in), which keeps the size of what passes through (He et al. 2015,
arXiv:1502.01852)."""

from __future__ import annotations

import math

import torch
from torch import nn

from orrery.kit.seeds import torch_generator


@torch.no_grad()
def draw_he(model: nn.Module, seed: int) -> None:
    """Matrices and kernels (out, in, ...) anew, scales (vectors called `weight`) to one, every other vector to zero.

    Each tensor has its own stream, keyed by (seed, its name).
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        if parameter.ndim >= 2:
            generator = torch_generator(seed, "weight", name)
            std = math.sqrt(2 / parameter[0].numel())
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
