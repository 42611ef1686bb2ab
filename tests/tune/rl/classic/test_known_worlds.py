"""Worlds with known answers: printed values of a grid, Bellman's equations, Q-learning, a fixed log."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.kit.errors import OrreryError
from orrery.tune.rl.classic.bellman import (
    action_values,
    bellman_residual,
    policy_iteration,
    policy_values,
    value_iteration,
)
from orrery.tune.rl.classic.gridworld import gridworld
from orrery.tune.rl.classic.mdp import MarkovDecisionProcess
from orrery.tune.rl.classic.offline import fitted_q
from orrery.tune.rl.classic.q_learning import experience, q_learning, uniform

PRINTED = [0.812, 0.868, 0.918, 0, 0.762, 0, 0.660, 0, 0.705, 0.655, 0.611, 0.388]
"""Russell & Norvig 1995, figure 17.3; 0 for the wall and where the episode is over."""


def test_value_iteration_gives_the_values_in_print() -> None:
    found = value_iteration(gridworld())
    np.testing.assert_allclose(found.values, PRINTED, atol=5e-4)
    assert bellman_residual(gridworld(), found.values) < 1e-9


def test_policy_iteration_comes_to_the_same_in_a_few_rounds() -> None:
    mdp = gridworld()
    by_value, by_policy = value_iteration(mdp), policy_iteration(mdp)
    np.testing.assert_allclose(by_value.values, by_policy.values, atol=1e-8)
    assert (by_value.policy == by_policy.policy).all()
    assert by_policy.rounds < 10 < by_value.rounds


def test_a_policys_value_solves_its_own_bellman_equation() -> None:
    mdp, policy = gridworld(gamma=0.9), np.full((12, 4), 0.25)
    values = policy_values(mdp, policy)
    np.testing.assert_allclose((policy * action_values(mdp, values)).sum(1), values, atol=1e-12)
    assert (values <= value_iteration(mdp).values + 1e-12).all()


def test_two_states_by_hand() -> None:
    """Stay for 1 or leave for 5 and the end: with gamma 0.9 staying is worth 10."""
    p = np.zeros((2, 2, 2))
    p[0, 0, 0] = p[0, 1, 1] = 1
    p[1, :, 1] = 1
    mdp = MarkovDecisionProcess(
        transitions=p, rewards=np.array([[1.0, 5], [0, 0]]), terminal=np.array([False, True]), gamma=0.9
    )
    found = value_iteration(mdp)
    np.testing.assert_allclose(found.action_values[0], [10, 5], atol=1e-8)
    assert found.policy[0] == 0


def test_q_learning_finds_the_best_values_behaving_at_random() -> None:
    mdp = gridworld()
    exact = value_iteration(mdp)
    q = q_learning(mdp, steps=60_000)
    alive = ~mdp.terminal
    assert np.abs(q.max(1) - exact.values)[alive].max() < 0.08
    greedy = np.eye(4)[q.argmax(1)]
    assert policy_values(mdp, greedy)[mdp.start] == pytest.approx(exact.values[mdp.start], abs=0.01)


def test_experience_is_a_function_of_the_seed() -> None:
    mdp = gridworld()
    runs = [list(experience(mdp, uniform(4), steps=50, seed=s)) for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_transitions_come_with_their_probabilities() -> None:
    mdp = gridworld()
    log = [t for t in experience(mdp, uniform(4), steps=20_000) if (t.state, t.action) == (8, 0)]
    share = np.bincount([t.next_state for t in log], minlength=12) / len(log)
    np.testing.assert_allclose(share, mdp.transitions[8, 0], atol=0.03)


def test_offline_an_unseen_action_is_believed_unless_left_out() -> None:
    """Nobody in the log ever goes left; thought to be worth 2, it is what an unconstrained maximum takes."""
    mdp = gridworld(gamma=0.95)
    log = list(experience(mdp, lambda _, rng: rng.randrange(3), steps=8000, seed=1))
    shape = {"states": mdp.states, "actions": mdp.actions, "gamma": mdp.gamma, "initial": 2.0}
    free, held = (fitted_q(log, **shape, constrained=c) for c in (False, True))
    seen = sorted({t.state for t in log})
    assert (free[seen].argmax(1) == 3).all()
    assert (held[seen, 3] == -np.inf).all()
    values = policy_values(mdp, np.eye(4)[held.argmax(1)])
    assert values[mdp.start] > 0.9 * value_iteration(mdp).values[mdp.start]
    assert held[mdp.start].max() == pytest.approx(value_iteration(mdp).values[mdp.start], abs=0.1)


def test_a_map_must_be_one() -> None:
    for text in ("S.\n...", "..G", "S.S"):
        with pytest.raises(OrreryError, match="check the map"):
            gridworld(text)
