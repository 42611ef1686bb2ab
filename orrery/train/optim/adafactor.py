"""Adafactor (Shazeer & Stern 2018, arXiv:1804.04235, algorithms 4 to 6).

    b_t = 1 - t^-0.8
    R <- b_t R + (1 - b_t) mean_columns(g^2 + e1)     one number a row
    C <- b_t C + (1 - b_t) mean_rows(g^2 + e1)        one number a column
    u = g / sqrt(R C / mean(R))                       vectors keep the whole second moment
    u <- u / max(1, RMS(u) / d)                       update clipping
    w <- w - a u,  a = lr max(e2, RMS(w))           (a = lr if not relative)

For an (n, m) matrix the state is n + m numbers where Adam keeps 2 n m. There is no first moment. `lr` is
scheduled by the recipe, as everywhere here, in place of the paper's built-in min(0.01, 1 / sqrt(t)).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Adafactor(Optimizer):
    """Weight decay is decoupled: w <- w (1 - lr wd)."""

    def __init__(
        self, params: Any, lr: float = 1e-2, beta2_decay: float = -0.8, eps: tuple[float, float] = (1e-30, 1e-3),
        clip: float = 1.0, relative: bool = True, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "clip": clip, "relative": relative,
            "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            lr, (eps1, eps2) = group["lr"], group["eps"]
            for w in (p for p in group["params"] if p.grad is not None):
                state = self.state[w]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    if w.ndim >= 2:
                        state["row"], state["column"] = (
                            w.new_zeros(w.shape[:-1]),
                            w.new_zeros(w.shape[:-2] + w.shape[-1:]),
                        )
                    else:
                        state["square_avg"] = torch.zeros_like(w)
                keep = 1 - state["step"].add_(1).item() ** group["beta2_decay"]
                update = w.grad * _inverse_root(state, w.grad.square().add_(eps1), keep)
                update.div_(max(1.0, _rms(update) / group["clip"]))
                rate = lr * max(eps2, _rms(w)) if group["relative"] else lr
                if group["weight_decay"]:
                    w.mul_(1 - lr * group["weight_decay"])
                w.add_(update, alpha=-rate)


def _inverse_root(state: dict[str, Tensor], squared: Tensor, keep: float) -> Tensor:
    """Update the (factored) average of squared gradients; returns 1 / sqrt of it at full shape.

    The roots are taken before the product: of a row and a column without gradient the product underflows.
    """
    if "square_avg" in state:
        return state["square_avg"].lerp_(squared, 1 - keep).rsqrt()
    row = state["row"].lerp_(squared.mean(-1), 1 - keep)
    column = state["column"].lerp_(squared.mean(-2), 1 - keep)
    return (row / row.mean(-1, keepdim=True)).rsqrt()[..., :, None] * column.rsqrt()[..., None, :]


def _rms(x: Tensor) -> float:
    """Root of the mean square."""
    return (x.norm(2) / x.numel() ** 0.5).item()
