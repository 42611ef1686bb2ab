"""A Markov decision process: what happens next depends on the state and the action, and on nothing before.

    P[s, a, s']   probability of s' after a in s        R[s, a]   expected reward        gamma   discount

Legend: S states, A actions. (Bellman 1957; Sutton & Barto 2018, chapter 3.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Transition(NamedTuple):
    """One step of experience; `done` says that the episode ended with it."""

    state: int
    action: int
    reward: float
    next_state: int
    done: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkovDecisionProcess:
    """A world with its probabilities known.

    Args:
        transitions: (S, A, S), rows sum to 1.
        rewards: (S, A) expected reward of an action.
        terminal: (S,) bool, states in which an episode is over; nothing is earned there.
        start: the state an episode begins in.
    """

    transitions: Floats
    rewards: Floats
    terminal: NDArray[np.bool_]
    gamma: float = 1.0
    start: int = 0

    @property
    def states(self) -> int:
        """S."""
        return self.transitions.shape[0]

    @property
    def actions(self) -> int:
        """A."""
        return self.transitions.shape[1]

    def step(self, state: int, action: int, rng: random.Random) -> Transition:
        """What happens: a next state is drawn, the expected reward is paid."""
        u, after = rng.random(), 0
        for after, mass in self._outcomes[state][action]:  # noqa: B007 - the last one takes what rounding leaves
            u -= mass
            if u < 0:
                break
        return Transition(state, action, self._paid[state][action], after, self._over[after])

    @cached_property
    def _outcomes(self) -> list[list[list[tuple[int, float]]]]:
        """Plain lists: a step of a small world costs less than one look into an array."""
        table = self.transitions.tolist()
        return [[[(s, p) for s, p in enumerate(row) if p > 0] for row in rows] for rows in table]

    @cached_property
    def _paid(self) -> list[list[float]]:
        return self.rewards.tolist()

    @cached_property
    def _over(self) -> list[bool]:
        return self.terminal.tolist()
