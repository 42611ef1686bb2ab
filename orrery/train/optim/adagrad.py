"""Adagrad (Duchi, Hazan & Singer 2011, algorithm 1, diagonal form).

    s <- s + g^2,     w <- w - lr g / (sqrt(s) + eps)

The sum only grows, so the effective rate lr / sqrt(s) only falls: good for sparse features, a stall for long
runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class Adagrad(Optimizer):
    """Weight decay is added to the gradient."""

    def __init__(self, params: Any, lr: float = 0.01, eps: float = 1e-10, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for w in (p for p in group["params"] if p.grad is not None):
                g = w.grad.add(w, alpha=group["weight_decay"]) if group["weight_decay"] else w.grad
                if not self.state[w]:
                    self.state[w]["sum"] = torch.zeros_like(w)
                total = self.state[w]["sum"].addcmul_(g, g)
                w.addcdiv_(g, total.sqrt().add_(group["eps"]), value=-group["lr"])
