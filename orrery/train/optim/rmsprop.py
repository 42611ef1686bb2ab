"""RMSprop (Tieleman & Hinton 2012, lecture 6.5).

    s <- a s + (1 - a) g^2,     w <- w - lr g / (sqrt(s) + eps)

Adagrad with a moving average: old gradients are forgotten, so the rate recovers. With momentum the scaled
gradient is what the velocity collects.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class RMSprop(Optimizer):
    """Weight decay is added to the gradient."""

    def __init__(
        self, params: Any, lr: float = 1e-3, alpha: float = 0.99, eps: float = 1e-8, momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            alpha, mu = group["alpha"], group["momentum"]
            for w in (p for p in group["params"] if p.grad is not None):
                g = w.grad.add(w, alpha=group["weight_decay"]) if group["weight_decay"] else w.grad
                state = self.state[w]
                if not state:
                    state["square_avg"] = torch.zeros_like(w)
                    if mu:
                        state["velocity"] = torch.zeros_like(w)
                scale = (
                    state["square_avg"].mul_(alpha).addcmul_(g, g, value=1 - alpha).sqrt().add_(group["eps"])
                )
                update = state["velocity"].mul_(mu).addcdiv_(g, scale) if mu else g / scale
                w.add_(update, alpha=-group["lr"])
