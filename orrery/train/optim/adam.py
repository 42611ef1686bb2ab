"""Adam (Kingma & Ba 2015, algorithm 1) and AdamW (Loshchilov & Hutter 2019, algorithm 2).

    m <- b1 m + (1 - b1) g          m^ = m / (1 - b1^t)
    v <- b2 v + (1 - b2) g^2        v^ = v / (1 - b2^t)
    w <- w - lr m^ / (sqrt(v^) + eps)

Adam's weight decay adds `wd w` to the gradient, where the division by sqrt(v^) undoes much of it. AdamW's
shrinks the weight itself, w <- w (1 - lr wd), apart from the gradient. State: two tensors a parameter, 8
bytes per fp32 weight. The quantities carry torch's names, so the state also fits `torch.optim.AdamW`, whose
fused kernel `build_optimizer` prefers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.optim import Optimizer


class Adam(Optimizer):
    """Adam with L2 regularisation in the gradient."""

    decoupled = False

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            (b1, b2), lr, decay = group["betas"], group["lr"], group["weight_decay"]
            for w in (p for p in group["params"] if p.grad is not None):
                state = self.state[w]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(w), torch.zeros_like(w)
                g = w.grad
                if decay and self.decoupled:
                    w.mul_(1 - lr * decay)
                elif decay:
                    g = g.add(w, alpha=decay)
                t = state["step"].add_(1).item()
                m = state["exp_avg"].lerp_(g, 1 - b1)
                v = state["exp_avg_sq"].mul_(b2).addcmul_(g, g, value=1 - b2)
                scale = v.sqrt().div_(math.sqrt(1 - b2**t)).add_(group["eps"])
                w.addcdiv_(m, scale, value=-lr / (1 - b1**t))


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    decoupled = True
