"""Trust region policy optimization: the largest improvement within a measured distance of the old policy.

    maximise g.d   subject to   1/2 d.F d <= delta        F = Hessian of KL(old || new) at the old weights
    d = sqrt(2 delta / x.F x) x,   F x = g                (Schulman et al. 2015, arXiv:1502.05477, section 6, appendix C)

F is the Fisher information; its products with vectors come from differentiating the KL twice, x from conjugate gradients. The
step is then halved until the *measured* KL is at most delta and the surrogate has improved, so that what holds on paper
to second order holds in fact. For models small enough for twice differentiated attention (`Explicit` contexts).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.tune.rl.conjugate_gradient import conjugate_gradient


@dataclass(frozen=True)
class TrustRegionStep:
    """What a step did: `kl` and `improvement` are measured after it; `scale` is the share of the full step that was taken,
    0 where none was good enough and the weights are as before."""

    kl: float
    improvement: float
    scale: float


def trpo_step(
    parameters: Sequence[Tensor],
    surrogate: Callable[[], Tensor],
    kl: Callable[[], Tensor],
    *,
    delta: float = 0.01,
    damping: float = 0.1,
    iterations: int = 10,
    halvings: int = 10,
) -> TrustRegionStep:
    """Move `parameters` in place.

    Args:
        surrogate: the objective to raise, mean of ratio times advantage, as a scalar with gradient.
        kl: mean KL(old || new), a scalar twice differentiable in the parameters and 0 where they are now.
        delta: the bound of the KL, in nats.
        damping: added to the diagonal of F, which a model with spare weights does not fill.
        iterations: of conjugate gradients.
        halvings: how often the step may be halved.
    """
    before = surrogate()
    g = _flat(torch.autograd.grad(before, parameters))
    slopes = _flat(torch.autograd.grad(kl(), parameters, create_graph=True))

    def fisher(v: Tensor) -> Tensor:
        return _flat(torch.autograd.grad(slopes @ v, parameters, retain_graph=True)) + damping * v

    x = conjugate_gradient(fisher, g, iterations=iterations)
    curvature = x @ fisher(x)
    if not curvature > 0:  # no gradient: every advantage is 0
        return TrustRegionStep(0.0, 0.0, 0.0)
    full = (2 * delta / curvature).sqrt() * x
    start = [p.detach().clone() for p in parameters]
    for n in range(halvings + 1):
        scale = 0.5**n
        _place(parameters, start, scale * full)
        with torch.no_grad():
            distance, gain = kl().item(), (surrogate() - before).item()
        if distance <= delta and gain > 0:
            return TrustRegionStep(distance, gain, scale)
    _place(parameters, start, torch.zeros_like(full))
    return TrustRegionStep(0.0, 0.0, 0.0)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


@torch.no_grad()
def _place(parameters: Sequence[Tensor], start: Sequence[Tensor], move: Tensor) -> None:
    parts = move.split([p.numel() for p in parameters])
    for parameter, old, part in zip(parameters, start, parts, strict=True):
        parameter.copy_(old + part.view_as(old))
