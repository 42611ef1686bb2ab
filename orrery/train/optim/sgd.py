"""Stochastic gradient descent, with momentum.

    v <- mu v + g,     w <- w - lr v            heavy ball (Polyak 1964)
    v <- mu v + g,     w <- w - lr (g + mu v)   Nesterov, in the form of Sutskever et al. 2013

Weight decay is added to the gradient (here it is the same as L2 regularisation).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class SGD(Optimizer):
    """Momentum 0 keeps no state."""

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            mu = group["momentum"]
            for w in (p for p in group["params"] if p.grad is not None):
                update = w.grad.add(w, alpha=group["weight_decay"]) if group["weight_decay"] else w.grad
                if mu:
                    if not self.state[w]:
                        self.state[w]["velocity"] = torch.zeros_like(w)
                    velocity = self.state[w]["velocity"].mul_(mu).add_(update)
                    update = update.add(velocity, alpha=mu) if group["nesterov"] else velocity
                w.add_(update, alpha=-group["lr"])
