"""Gradient clipping, and an update that never lets a non-finite gradient near the weights or the moments.

    g <- g * min(1, limit / (||g|| + 1e-6)),   ||g|| over all parameters together      (Pascanu et al. 2013)

A step is skipped by a branch, not by multiplying with 0: 0 * NaN is NaN, and it would stay in the moments for
ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.train.optim.joint import JointOptimizer


@dataclass(frozen=True)
class StepResult:
    """The gradient norm before clipping, and whether weights and moments were touched at all."""

    grad_norm: float
    applied: bool


@torch.no_grad()
def global_norm(parameters: Iterable[Tensor]) -> float:
    """Euclidean norm of all gradients taken as one vector; inf or nan if any entry is."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if not grads:
        return 0.0
    norms = torch._foreach_norm(grads, 2)
    return float(torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])))


def clip_grad_norm(parameters: Iterable[Tensor], limit: float | None) -> float:
    """Scale the gradients so that their global norm is at most `limit`; returns the norm before.

    A non-finite norm leaves them as they are: the caller must not step.
    """
    parameters = list(parameters)
    norm = global_norm(parameters)
    if limit is not None and math.isfinite(norm) and norm > limit:
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], limit / (norm + 1e-6))
    return norm


def clip_grad_value(parameters: Iterable[Tensor], limit: float) -> None:
    """Clamp every entry of every gradient into [-limit, limit]."""
    grads = [p.grad for p in parameters if p.grad is not None]
    torch._foreach_clamp_min_(grads, -limit)
    torch._foreach_clamp_max_(grads, limit)


def guarded_step(optimizer: JointOptimizer, *, max_norm: float | None = None) -> StepResult:
    """Clip and update; with a non-finite gradient nothing at all is changed and `applied` is False."""
    norm = clip_grad_norm(optimizer.parameters, max_norm)
    if math.isfinite(norm):
        optimizer.step()
    return StepResult(norm, applied=math.isfinite(norm))
