"""How parameters begin."""

from __future__ import annotations

import torch
from torch import nn

from orrery.kit.seeds import torch_generator
from orrery.model.norm import GroupedRMSNorm, HeadNorm, RMSNorm
from orrery.model.recurrent import Recurrence


@torch.no_grad()
def draw(model: nn.Module, std: float, seed: int) -> None:
    """Every weight anew: matrices from normal(0, std), norms to identity, vectors to zero, recurrences by their own rules.

    Each tensor has its own stream, keyed by (seed, its name): adding a layer does not change the others.
    """
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            continue
        if parameter.ndim >= 2:
            generator = torch_generator(seed, "weight", name)
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator))
        else:
            parameter.zero_()
    reset_by_kind(model, seed)


@torch.no_grad()
def reset_by_kind(model: nn.Module, seed: int) -> None:
    """Norms to the identity, recurrences as their papers say. Call it after a rule that looks at shapes alone."""
    for name, module in model.named_modules():
        if isinstance(module, RMSNorm | GroupedRMSNorm | HeadNorm | nn.LayerNorm):
            module.reset_parameters()
        elif isinstance(module, Recurrence) and not next(module.parameters()).is_meta:
            module.reset_parameters(torch_generator(seed, "weight", name))
