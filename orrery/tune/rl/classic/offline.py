"""Offline reinforcement learning: a log of what somebody did, and nothing to try out.

    Q(s, a) <- mean over the log's steps (s, a, r, s') of  r + gamma max_{a' in C(s')} Q(s', a')

Fitted Q-iteration (Ernst et al. 2005). With C(s') all actions, those the log never shows keep the value they started with;
if that is too high, the maximum picks it, every time, and no experience will ever correct it. With C(s') the actions seen in s'
(batch-constrained, Fujimoto et al. 2019, arXiv:1812.02900) the policy stays where the data say something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orrery.tune.rl.classic.mdp import Floats, Transition


def fitted_q(
    log: Sequence[Transition],
    *,
    states: int,
    actions: int,
    gamma: float,
    constrained: bool = True,
    initial: float = 0.0,
    sweeps: int = 200,
) -> Floats:
    """Q (S, A) of a log; -inf, if constrained, where the log shows nothing.

    Args:
        initial: what every action is thought worth before the first sweep; unconstrained, the unseen keep it.
    """
    state, action, after = (np.array([getattr(t, f) for t in log]) for f in ("state", "action", "next_state"))
    reward, done = (np.array([getattr(t, f) for t in log], dtype=float) for f in ("reward", "done"))
    count = np.zeros((states, actions))
    np.add.at(count, (state, action), 1)
    seen = count > 0
    allowed = seen if constrained else np.ones_like(seen)
    q = np.full((states, actions), initial)
    for _ in range(sweeps):
        best = np.where(allowed, q, -np.inf).max(1)
        best = np.where(np.isfinite(best), best, 0.0)  # a state the log ends in
        total = np.zeros_like(q)
        np.add.at(total, (state, action), reward + gamma * (1 - done) * best[after])
        q = np.where(seen, total / np.maximum(count, 1), q)
    return np.where(allowed, q, -np.inf)
