"""Batch normalisation: every channel is centred and scaled by its statistics over the batch (Ioffe & Szegedy 2015,
arXiv:1502.03167).

    x_hat = (x - mean) / sqrt(var + eps),   y = w x_hat + b
    running <- (1 - momentum) running + momentum (mean, or var * n / (n - 1))

In training mean and var are those of the batch, and the gradient goes through them; in eval they are the running ones, so that
an answer does not depend on what else is in the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError


class BatchNorm(nn.Module):
    """Over all axes but the second, of (N, C) or (N, C, H, W) or the like.

    running_mean, running_var: (C,) buffers, what eval divides by; saved with the weights, moved by no optimiser.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...).

        Raises:
            OrreryError: in training, a single number a channel, which has no variance.
        """
        mean, var = self._measure(x) if self.training else (self.running_mean, self.running_var)
        shape = (-1,) + (1,) * (x.ndim - 2)  # of a number a channel beside (N, C, ...)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)

    def _measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the batch, (C,) each; the running ones move towards them."""
        n = x.numel() // x.shape[1]
        if n < 2:
            raise OrreryError(
                "batch normalisation cannot train on one number a channel; use a larger batch, or eval()"
            )
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, axes, correction=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * n / (n - 1)).to(self.running_var.dtype), self.momentum)
        return mean, var

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"
