"""Muon: momentum, orthogonalised by Newton-Schulz (Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982).

    v <- mu v + g,   u = g + mu v (Nesterov) or v
    w <- w (1 - lr wd) - lr r NS(u)
    r = 0.2 sqrt(max(n, m))  ("rms": NS(u) has RMS near 1 / sqrt(max(n, m)), so an update's is 0.2, as AdamW's)
    r = sqrt(max(1, out / in))  ("spectral")

The update of steepest descent under the spectral norm: all directions of a matrix move alike, rare ones too.
For hidden matrices only (2-D (out, in), or stacks of experts (E, in, out)). Small matrices of one shape are
iterated as one batch. The iteration runs in fp32 on CPUs: bf16 there costs a hundred times as much where the
hardware lacks it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from orrery.kit.errors import OrreryError
from orrery.train.optim.newton_schulz import newton_schulz

Scale = Literal["rms", "spectral"]
SMALL = 1 << 12
"""entries of a matrix up to which a batch is faster than one product after another"""


class Muon(Optimizer):
    """State: one velocity a parameter."""

    def __init__(
        self, params: Any, lr: float = 2e-3, momentum: float = 0.95, nesterov: bool = True, ns_steps: int = 5,
        ns_dtype: Literal["auto", "float32", "bfloat16"] = "auto", scale: Scale = "rms", weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "ns_dtype": ns_dtype,
            "scale": scale, "weight_decay": weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim not in (2, 3):
                raise OrreryError(
                    f"muon takes matrices and stacks of matrices, not shape {tuple(p.shape)}; use adamw for it"
                )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            mu, lr = group["momentum"], group["lr"]
            alike: dict[tuple, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for w in (p for p in group["params"] if p.grad is not None):
                if not self.state[w]:
                    self.state[w]["velocity"] = torch.zeros_like(w)
                velocity = self.state[w]["velocity"].mul_(mu).add_(w.grad)
                update = w.grad.add(velocity, alpha=mu) if group["nesterov"] else velocity
                alike[(w.shape, w.dtype, w.device)].append((w, update))
            for (shape, _, device), pairs in alike.items():
                dtype = iteration_dtype(group["ns_dtype"], device)
                updates = orthogonal([update for _, update in pairs], group["ns_steps"], dtype)
                for (w, _), update in zip(pairs, updates, strict=True):
                    w.mul_(1 - lr * group["weight_decay"])
                    w.add_(update.to(w.dtype), alpha=-lr * shape_scale(shape, group["scale"]))


def orthogonal(updates: list[Tensor], steps: int, dtype: torch.dtype) -> list[Tensor]:
    """Newton-Schulz of updates of one shape: small matrices as one batch, which saves calls; large ones, and stacks, each
    alone, where every product keeps all cores busy by itself."""
    if updates[0].ndim == 3 or updates[0].numel() > SMALL:
        return [newton_schulz(update, steps, dtype=dtype) for update in updates]
    return list(newton_schulz(torch.stack(updates), steps, dtype=dtype))


def shape_scale(shape: tuple[int, ...], scale: Scale) -> float:
    """The factor r of the update for a weight of this shape."""
    n, m = shape[-2:]
    if scale == "rms":
        return 0.2 * max(n, m) ** 0.5
    wide, narrow = (n, m) if len(shape) == 2 else (m, n)  # (out, in); a stack of experts is (E, in, out)
    return max(1.0, wide / narrow) ** 0.5


def iteration_dtype(choice: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Precision of the iteration: bf16 by itself only on GPUs that multiply in it."""
    if choice == "auto":
        fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if fast else torch.float32
    return torch.float32 if choice == "float32" else torch.bfloat16
