"""Returns: the discounted sum of the rewards that follow.

    G_t = r_t + gamma G_{t+1} = sum_{k >= t} gamma^(k - t) r_k                (Sutton & Barto 2018, eq. 3.8)

The reward-to-go may stand for the whole return in a policy gradient: what was earned before an action does not
depend on it and only adds noise. Language models use gamma = 1.
"""

from __future__ import annotations

from torch import Tensor

from orrery.tune.rl.responses import suffix_sums


def reward_to_go(rewards: Tensor, owner: Tensor, gamma: float = 1.0) -> Tensor:
    """G_t for every token; `rewards` (T,), `owner` (T,), never across the end of a response."""
    return suffix_sums(rewards, owner, gamma)
