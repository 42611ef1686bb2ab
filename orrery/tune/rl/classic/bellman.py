"""The Bellman equations and the three ways to solve them when the world is known.

    Q(s, a)  = R(s, a) + gamma sum_s' P(s' | s, a) V(s')
    V_pi(s)  = sum_a pi(a | s) Q_pi(s, a)               a policy's value: linear in V, solved at once
    V*(s)    = max_a Q*(s, a)                           the best value: a fixed point, found by repeating

The right-hand side is a contraction (by gamma, or because every path ends), so repeating it from anywhere converges (Bellman
1957; Sutton & Barto 2018, chapter 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.tune.rl.classic.mdp import Floats, MarkovDecisionProcess


@dataclass(frozen=True)
class Solution:
    """Values (S,), action values (S, A), the greedy policy (S,), and how many sweeps or improvements it took."""

    values: Floats
    action_values: Floats
    policy: np.ndarray
    rounds: int


def action_values(mdp: MarkovDecisionProcess, values: Floats) -> Floats:
    """Q (S, A) of values (S,): one step ahead, then as `values` says."""
    return mdp.rewards + mdp.gamma * mdp.transitions @ np.where(mdp.terminal, 0.0, values)


def bellman_residual(mdp: MarkovDecisionProcess, values: Floats) -> float:
    """max_s |max_a Q(s, a) - V(s)|: 0 at the best values and nowhere else."""
    return float(np.abs(action_values(mdp, values).max(1) - values).max())


def value_iteration(mdp: MarkovDecisionProcess, *, tolerance: float = 1e-10) -> Solution:
    """V <- max_a Q until nothing moves by more than `tolerance`."""
    values, rounds = np.zeros(mdp.states), 0
    while (gap := bellman_residual(mdp, values)) > tolerance:
        values, rounds = action_values(mdp, values).max(1), rounds + 1
        assert rounds < 1_000_000, gap
    return _solution(mdp, values, rounds)


def policy_values(mdp: MarkovDecisionProcess, policy: Floats) -> Floats:
    """V (S,) of a policy (S, A) of probabilities: (I - gamma P_pi) V = R_pi over the states where something happens."""
    alive = ~(mdp.terminal | (mdp.transitions[np.arange(mdp.states), :, np.arange(mdp.states)] == 1).all(1))
    p = np.einsum("sa,sat->st", policy, mdp.transitions)[np.ix_(alive, alive)]
    r = (policy * mdp.rewards).sum(1)[alive]
    values = np.zeros(mdp.states)
    values[alive] = np.linalg.solve(np.eye(len(p)) - mdp.gamma * p, r)
    return values


def policy_iteration(mdp: MarkovDecisionProcess) -> Solution:
    """Evaluate the policy, act greedily on what it is worth, repeat until it stays the same (Howard 1960)."""
    policy, rounds = np.full((mdp.states, mdp.actions), 1 / mdp.actions), 0
    while True:
        values = policy_values(mdp, policy)
        greedy = np.eye(mdp.actions)[_greedy(action_values(mdp, values))]
        if (greedy == policy).all():
            return _solution(mdp, values, rounds)
        policy, rounds = greedy, rounds + 1


def _solution(mdp: MarkovDecisionProcess, values: Floats, rounds: int) -> Solution:
    q = action_values(mdp, values)
    return Solution(values, q, _greedy(q), rounds)


def _greedy(q: Floats) -> np.ndarray:
    """The first of the best actions; values equal up to rounding are a tie."""
    return (q >= q.max(1, keepdims=True) - 1e-9).argmax(1)
