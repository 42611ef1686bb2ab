"""Learning from samples that another policy drew: weights pi / mu, held in bounds.

    E_pi[f(x)] = E_mu[w f(x)],  w = pi(x) / mu(x)          n_eff = (sum w)^2 / sum w^2      (Kish 1965)

The weight of a response is the product of its tokens', so its variance grows with the length. Bounds trade bias for
variance:

    level      token      w_t of each token
               sequence   the product over the response, for all its tokens
               geometric  the length-th root of that
    rule       truncate   min(w, high)         truncated importance sampling (Ionides 2008; Yao et al. 2025)
               mask       w if low <= w <= high, else 0: what is too far off is left out

A token whose log-probability is not finite on either side says nothing: weight 0, counted, and left out of products.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from orrery.tune.rl.ratio import token_ratio
from orrery.tune.rl.responses import response_means, response_sums, runs

Level = Literal["token", "sequence", "geometric"]
Rule = Literal["truncate", "mask"]


class Correction(NamedTuple):
    """`weights` (T,) without gradient; how many tokens were changed by the bounds, and how many could not be read."""

    weights: Tensor
    bounded: int
    unreadable: int


def importance_weights(
    trainer: Tensor,
    sampler: Tensor,
    owner: Tensor,
    *,
    level: Level = "token",
    rule: Rule = "truncate",
    low: float = 0.0,
    high: float = 2.0,
) -> Correction:
    """Weights for tokens that `sampler` drew, (T,).

    Args:
        trainer, sampler: (T,) log-probabilities of the sampled tokens, from the policy that learns and from the one that
            sampled (another engine, an older version, a log).
        low: the least weight; under "truncate" weights below are raised to it.
    """
    readable = trainer.isfinite() & sampler.isfinite()
    gap = torch.where(readable, trainer - sampler, 0.0).detach()  # inf - inf is never used
    match level:
        case "token":
            free = token_ratio(gap)
        case "sequence":
            free = token_ratio(response_sums(gap, owner))[runs(owner).index]
        case "geometric":
            free = token_ratio(response_means(gap, owner))[runs(owner).index]
    match rule:
        case "truncate":
            held = free.clamp(low, high)
        case "mask":
            held = torch.where((free >= low) & (free <= high), free, 0.0)
    weights = torch.where(readable, held, 0.0)
    return Correction(weights, int((readable & (held != free)).sum()), int((~readable).sum()))


def off_policy_mask(
    trainer: Tensor, sampler: Tensor, advantages: Tensor, owner: Tensor, *, threshold: float
) -> Tensor:
    """1 for tokens to keep, 0 for those of responses with a negative advantage that the policy has drifted away from, (T,).

    A response goes where its mean log mu - log pi exceeds `threshold`: pushing further down what is unlikely already
    destabilizes (DeepSeek-V3.2 2025, arXiv:2512.02556, section 3.1).
    """
    gap = (sampler - trainer).detach()
    drift = response_means(torch.where(gap.isfinite(), gap, 0.0), owner)[runs(owner).index]
    return ((advantages >= 0) | (drift <= threshold)).to(trainer.dtype)


def effective_sample_size(weights: Tensor) -> float:
    """(sum w)^2 / sum w^2: how many samples of equal weight would know as much; 0 where all weights are 0."""
    w = weights.double()
    square = w.square().sum()
    return float(w.sum().square() / square) if square > 0 else 0.0
