"""Q-learning: the best values from experience, without knowing the world and whatever the behaviour was.

    Q(s, a) <- Q(s, a) + alpha (r + gamma max_a' Q(s', a') - Q(s, a))            (Watkins 1989; Watkins & Dayan 1992)

The maximum is over actions, not over what was done next: that makes it off-policy. With every pair visited again and again
and alpha falling (here 1 / visits^0.7) it converges to Q*.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from orrery.kit.seeds import key
from orrery.tune.rl.classic.mdp import Floats, MarkovDecisionProcess, Transition

Behaviour = Callable[[int, random.Random], int]
"""(state, rng) -> action."""

LONGEST = 1000
"""Steps after which an episode is broken off."""


def experience(
    mdp: MarkovDecisionProcess, behaviour: Behaviour, *, steps: int, seed: int = 0
) -> Iterator[Transition]:
    """`steps` transitions, episode after episode from the start."""
    rng = random.Random(key(seed, "experience"))
    state, age = mdp.start, 0
    for _ in range(steps):
        moved = mdp.step(state, behaviour(state, rng), rng)
        yield moved
        age += 1
        state, age = (mdp.start, 0) if moved.done or age == LONGEST else (moved.next_state, age)


def uniform(actions: int) -> Behaviour:
    """Any action, whatever the state."""
    return lambda _, rng: rng.randrange(actions)


def epsilon_greedy(q: list[list[float]], epsilon: float) -> Behaviour:
    """The best action of a table that may go on changing; with probability epsilon any."""

    def act(state: int, rng: random.Random) -> int:
        row = q[state]
        return rng.randrange(len(row)) if rng.random() < epsilon else row.index(max(row))

    return act


def q_learning(
    mdp: MarkovDecisionProcess, *, steps: int, epsilon: float | None = None, seed: int = 0
) -> Floats:
    """Q (S, A) after `steps` of experience; acting at random, or epsilon-greedily on what is known so far."""
    q = [[0.0] * mdp.actions for _ in range(mdp.states)]
    behaviour = uniform(mdp.actions) if epsilon is None else epsilon_greedy(q, epsilon)
    _learn(q, experience(mdp, behaviour, steps=steps, seed=seed), mdp.gamma)
    return np.array(q)


def _learn(q: list[list[float]], transitions: Iterable[Transition], gamma: float) -> None:
    visits = [[0] * len(row) for row in q]
    for state, action, reward, after, done in transitions:
        visits[state][action] += 1
        alpha = visits[state][action] ** -0.7
        target = reward if done else reward + gamma * max(q[after])
        q[state][action] += alpha * (target - q[state][action])
