"""Generalized advantage estimation: a dial between a critic's one-step guess and the whole observed return.

    delta_t = r_t + gamma V_{t+1} - V_t
    A_t     = delta_t + gamma lam A_{t+1} = sum_l (gamma lam)^l delta_{t+l}      (Schulman et al. 2016, eq. 16)

lam = 0 is the temporal difference, lam = 1 the return minus the value. The critic's targets are A_t + V_t.

VAPO (Yue et al. 2025, arXiv:2504.05118, section 4.2) makes lam of the policy depend on the length l of a response,
lam = 1 - 1 / (alpha l), so that the sum of the weights sum_t lam^t is about alpha l for every length, and gives the
critic a lam of its own, 1 (decoupled; Yuan et al. 2025, arXiv:2503.01491).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from orrery.tune.rl.responses import runs, suffix_sums


class Estimates(NamedTuple):
    """For every token: how much better than expected (T,), and what the critic should have said (T,)."""

    advantages: Tensor
    returns: Tensor


def temporal_differences(
    rewards: Tensor, values: Tensor, owner: Tensor, gamma: float = 1.0, bootstrap: Tensor | None = None
) -> Tensor:
    """delta_t, (T,).

    Args:
        values: (T,) the critic's V_t, before the token is written.
        bootstrap: (R,) value after the last token, for responses cut off before their end; 0 where they ended.
    """
    last = runs(owner).last
    after = values.roll(-1)
    after = after.index_copy(0, last, values.new_zeros(len(last)) if bootstrap is None else bootstrap)
    return rewards + gamma * after - values


def gae(
    rewards: Tensor,
    values: Tensor,
    owner: Tensor,
    gamma: float = 1.0,
    lam: float | Tensor = 0.95,
    *,
    bootstrap: Tensor | None = None,
) -> Estimates:
    """Advantages and value targets; see `temporal_differences`. `lam` is one number or one a response, (R,)."""
    delta = temporal_differences(rewards, values, owner, gamma, bootstrap)
    advantages = suffix_sums(delta, owner, gamma * lam)
    return Estimates(advantages, advantages + values)


def length_adaptive_lambda(lengths: Tensor, alpha: float = 0.05) -> Tensor:
    """1 - 1 / (alpha l), for responses of l tokens; 0 for those shorter than 1 / alpha."""
    return (1 - 1 / (alpha * lengths.to(torch.get_default_dtype()))).clamp(min=0)


def length_adaptive_gae(
    rewards: Tensor,
    values: Tensor,
    owner: Tensor,
    gamma: float = 1.0,
    *,
    alpha: float = 0.05,
    critic_lam: float = 1.0,
    bootstrap: Tensor | None = None,
) -> Estimates:
    """VAPO's: the policy's lam by the length of each response, the critic's apart."""
    lam = length_adaptive_lambda(runs(owner).lengths, alpha).to(values.dtype)
    policy = gae(rewards, values, owner, gamma, lam, bootstrap=bootstrap)
    critic = gae(rewards, values, owner, gamma, critic_lam, bootstrap=bootstrap)
    return Estimates(policy.advantages, critic.returns)
