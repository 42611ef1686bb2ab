"""Best of N: draw n answers, take the one with the highest reward. What that does to the policy, exactly and by its bound.

With answers of distinct rewards, the best of n has the density  n F(r)^(n-1) p(y), F(r) = P(reward <= r), and

    KL(best of n || p) <= log n - (n - 1)/n        in nats; equal in the limit of many answers, each of them unlikely
    win rate            = n / (n + 1)              the best of n against one draw, ties counted half: of a continuous reward

(Stiennon et al. 2020, arXiv:2009.01325, G.3; that it is a bound: Beirami et al. 2024, arXiv:2401.01879.) In a world so small that all
answers can be listed, the distribution itself is computed: ties share by their probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def best_of_n_kl(n: int) -> float:
    """log n - (n - 1)/n, nats."""
    return math.log(n) - (n - 1) / n


def best_of_n_win_rate(n: int) -> float:
    """n / (n + 1)."""
    return n / (n + 1)


def best_of_n_distribution(logprobs: Tensor, rewards: Tensor, n: int) -> Tensor:
    """How likely each answer is to be the best of n: (A,) log-probabilities and (A,) rewards of all answers -> (A,) probabilities.

    P(best reward = r) = F(r)^n - F(r-)^n, shared among answers of that reward as p shares it.
    """
    p = logprobs.double().exp()
    p = p / p.sum()
    levels, place = rewards.unique(return_inverse=True)  # in order
    level = torch.zeros(len(levels), dtype=p.dtype).scatter_add(0, place, p)  # P(reward = r)
    upto = level.cumsum(0)  # F(r)
    return ((upto**n - (upto - level).clamp(min=0) ** n) / level)[place] * p


def kl(q: Tensor, logprobs: Tensor) -> float:
    """KL(q || p) over listed answers, nats."""
    p = logprobs.double() - logprobs.double().logsumexp(0)
    return max(0.0, float(torch.special.xlogy(q, q).sum() - (q * p).sum()))


def expected_best(rewards: Sequence[float], n: int) -> float:
    """The mean reward of the best of n, from m >= n drawn ones: over all choices of n of them, none drawn twice.

    E = sum_i C(i, n-1) / C(m, n) r_(i)          r_(0) <= ... <= r_(m-1) in order
    """
    m = len(rewards)
    assert 1 <= n <= m
    total = math.comb(m, n)
    return sum(math.comb(i, n - 1) / total * reward for i, reward in enumerate(sorted(rewards)))
