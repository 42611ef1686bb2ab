"""The critic's regression, and how well it predicts.

    L_t = 1/2 max((V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2)

The clip (of the code released with Schulman et al. 2017; Engstrom et al. 2020, arXiv:2005.12729) keeps values near those that the
advantages were made from: the gradient is 0 where V has moved towards R by more than eps already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.train.loss import Loss


def value_loss(
    values: Tensor, returns: Tensor, old_values: Tensor | None = None, *, clip: float | None = None
) -> Loss:
    """Half the squared error of values (T,) from returns (T,), summed; the weight is T.

    Args:
        old_values: (T,) when the responses were sampled; with `clip`, how far from them counts.

    Returns:
        `stats` are sums: "value_clipped" (tokens without gradient).
    """
    free = (values - returns).square()
    if clip is None or old_values is None:
        return Loss(free.sum() / 2, values.new_tensor(len(values)))
    held = (old_values + (values - old_values).clamp(-clip, clip) - returns).square()
    outside = ((values - old_values).abs() > clip) & (held >= free)
    return Loss(
        torch.maximum(free, held).sum() / 2, values.new_tensor(len(values)), {"value_clipped": outside.sum()}
    )


def explained_variance(values: Tensor, returns: Tensor) -> float:
    """1 - var(returns - values) / var(returns): 1 is a perfect critic, 0 is no better than a constant, below is worse.

    0 where the returns do not vary.
    """
    variance = returns.double().var(correction=0)
    return float(1 - (returns - values).double().var(correction=0) / variance) if variance > 0 else 0.0
