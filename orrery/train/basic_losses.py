"""The losses and divergences that the rest is made of, each as its definition.

    mse       (x - y)^2               bce   softplus(z) - y z      (y in [0, 1], z a logit)
    nll       - log p[y]                                  H     - sum p log p
    KL(p||q)  sum p (log p - log q)                       estimates from samples x ~ p, with r = q(x) / p(x):
              k1 = -log r,   k2 = (log r)^2 / 2,   k3 = r - 1 - log r     (Schulman 2020)

k1 is unbiased and can be negative; k2 is biased with little variance; k3 is unbiased, never negative. All in
nats.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.train.loss import Loss


def mse(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Loss:
    """Squared error, summed over entries; tensors of one shape."""
    return _weighted((prediction - target).square(), weights)


def binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Loss:
    """-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z)) from logits, safe for any size of logit."""
    return _weighted(F.softplus(logits) - labels * logits, weights)


def nll(logprobs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Loss:
    """Negative log-likelihood of `targets` (...,) under log-probabilities (..., V)."""
    return _weighted(-logprobs.gather(-1, targets[..., None]).squeeze(-1), weights)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last axis; (..., V) -> (...). A logit of -inf counts 0."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1)


def kl_divergence(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) of two softmax distributions over the last axis; (..., V) -> (...).

    Where p is 0 the term is 0; where q is 0 and p is not, the divergence is infinite.
    """
    logp, logq = logits_p.log_softmax(-1), logits_q.log_softmax(-1)
    p = logp.exp()
    return torch.where(p > 0, p * (logp - logq), 0.0).sum(-1)


def kl_estimate(logp: Tensor, logq: Tensor, kind: Literal["k1", "k2", "k3"] = "k3") -> Tensor:
    """Per-sample estimate of KL(p || q) from the log-probabilities of samples drawn from p; any shape."""
    log_ratio = logq - logp
    match kind:
        case "k1":
            return -log_ratio
        case "k2":
            return log_ratio.square() / 2
        case "k3":
            return log_ratio.expm1() - log_ratio


def _weighted(values: Tensor, weights: Tensor | None) -> Loss:
    weights = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    return Loss((weights * values).sum(), weights.sum())
