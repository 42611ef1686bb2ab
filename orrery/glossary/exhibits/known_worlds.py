"""Exhibits of reinforcement learning where the answer is known: values, Q-learning, a fixed log, poles to balance."""

from __future__ import annotations

import numpy as np

from orrery.glossary.exhibit import Exhibit, Series
from orrery.tune.rl.classic.actor_critic import train_ppo
from orrery.tune.rl.classic.bellman import (
    action_values,
    bellman_residual,
    policy_iteration,
    policy_values,
    value_iteration,
)
from orrery.tune.rl.classic.dqn import balanced_for, q_network, train_dqn
from orrery.tune.rl.classic.gridworld import CLASSIC, NAMES, gridworld
from orrery.tune.rl.classic.offline import fitted_q
from orrery.tune.rl.classic.policy_gradient import reinforce
from orrery.tune.rl.classic.q_learning import experience, q_learning


def values_of_a_grid() -> Exhibit:
    """A slippery grid solved exactly: the best value of every cell, and how the Bellman residual falls sweep by sweep."""
    mdp = gridworld()
    best = value_iteration(mdp)
    by_policy = policy_iteration(mdp)
    cells, width = CLASSIC.replace("\n", ""), CLASSIC.index("\n")
    rows = [
        tuple(
            f"{best.values[s]:.3f} {NAMES[best.policy[s]]}" if cells[s] in ".S" else cells[s]
            for s in range(y * width, (y + 1) * width)
        )
        for y in range(len(cells) // width)
    ]
    values, residuals = np.zeros(mdp.states), []
    for _ in range(best.rounds):
        residuals.append(bellman_residual(mdp, values))
        values = action_values(mdp, values).max(1)
    gap = float(np.abs(best.values - by_policy.values).max())
    return Exhibit(
        title="Value of each cell and the best move: +1 at G, -1 at X, -0.04 a step, one step in five slips sideways",
        columns=("", "", "", ""),
        rows=rows,
        series=[Series(name="largest |max Q - V|", x=list(range(len(residuals))), y=residuals)],
        x="sweeps", y="Bellman residual", log_y=True,
        reads=f"Value iteration needs {best.rounds} sweeps to a residual of {bellman_residual(mdp, best.values):.0e}; policy iteration {by_policy.rounds} policies, and "
        f"comes to the same values within {gap:.0e}. They are the numbers printed in Russell & Norvig. Beside X the best move is "
        "away from G: slipping costs more than the detour.",
    )  # fmt: skip


def q_learning_at_random() -> Exhibit:
    """Q-learning from a walk that never heeds what it learns, against the exact values."""
    mdp = gridworld()
    exact = value_iteration(mdp)
    alive = ~mdp.terminal
    rows, errors, steps = [], [], [300, 1000, 3000, 10_000, 30_000, 100_000]
    for n in steps:
        q = q_learning(mdp, steps=n)
        values = policy_values(
            mdp, np.eye(4)[q.argmax(1)] * 0.999 + 0.00025
        )  # nearly greedy: a loop would never end
        errors.append(float(np.abs(q.max(1) - exact.values)[alive].max()))
        rows.append((n, errors[-1], float(q[mdp.start].max()), float(values[mdp.start])))
    walk = float(policy_values(mdp, np.full((mdp.states, 4), 0.25))[mdp.start])
    return Exhibit(
        title=f"Best value of the start: {exact.values[mdp.start]:.3f}; of the random walk that gathered the experience: {walk:.3f}",
        columns=("steps", "largest error of a value", "value it claims for the start", "value of acting on it"),
        rows=rows,
        series=[Series(name="largest error", x=steps, y=errors)],
        x="steps of random walk", y="error of max Q", log_x=True, log_y=True,
        reads="The walk is bad and stays bad; what it teaches about is the best policy, because the update takes the maximum over next actions and not the "
        "one that was done. The policy is good long before the values are right.",
    )  # fmt: skip


def offline_from_a_log() -> Exhibit:
    """Two policies learned from one log of a cautious driver: with and without actions it never shows."""
    mdp = gridworld(gamma=0.95)
    log = list(experience(mdp, lambda _, rng: rng.randrange(3), steps=8000, seed=1))  # never left
    rows = []
    for name, constrained, initial in (
        ("actions of the log only", True, 0.0),
        ("all, the unseen thought worth 0", False, 0.0),
        ("all, the unseen thought worth 2", False, 2.0),
    ):
        q = fitted_q(
            log, states=mdp.states, actions=4, gamma=mdp.gamma, constrained=constrained, initial=initial
        )
        policy = np.eye(4)[q.argmax(1)]
        unseen = int((q.argmax(1) == 3)[[s for s in range(mdp.states) if mdp.rewards[s].any()]].sum())
        rows.append((name, float(q[mdp.start].max()), float(policy_values(mdp, policy)[mdp.start]), unseen))
    walk = np.array([[1, 1, 1, 0]] * mdp.states) / 3
    return Exhibit(
        title=f"8,000 steps by somebody who never turns left; their own value {policy_values(mdp, walk)[mdp.start]:.3f}, the best {value_iteration(mdp).values[mdp.start]:.3f}",
        columns=("maximum over", "value it claims", "value it has", "states where it turns left"),
        rows=rows,
        reads="Nothing was tried out: all three read the same log and take no step in the world. What the log does not show is never corrected, so "
        "one hopeful guess about it becomes the policy everywhere. Kept to what was seen, the result is better than the driver.",
    )  # fmt: skip


def reinforce_on_a_grid() -> Exhibit:
    """A policy of tables that learns a grid by REINFORCE: its return, update by update, beside the best there is."""
    mdp = gridworld()
    policy, means = reinforce(mdp)
    best = value_iteration(mdp).values[mdp.start]
    at = policy.logits.detach().softmax(-1).double().numpy()
    end = policy_values(mdp, at)[mdp.start]
    start = policy_values(mdp, np.full((mdp.states, 4), 0.25))[mdp.start]
    x = list(range(len(means)))
    return Exhibit(
        title="Sixty updates of sixteen episodes",
        columns=("policy", "expected return from the start, exactly"),
        rows=[("uniform", float(start)), ("after REINFORCE", float(end)), ("best possible", float(best))],
        series=[Series(name="mean return of the episodes", x=x, y=means), Series(name="best", x=x, y=[float(best)] * len(x))],
        x="update", y="return",
        reads="The loop is all of reinforcement learning: act, be told a number, make what did better than average likelier. Nobody said which step was "
        "right, and the world's probabilities are not used.",
    )  # fmt: skip


def ppo_on_a_pole() -> Exhibit:
    """PPO learns to balance a pole with the functions that train language models; its critic beside it."""
    policy, story = train_ppo()
    x = list(range(len(story)))
    rows = [
        (
            n,
            story[n].mean_length,
            story[n].explained_variance,
            story[n].entropy,
            story[n].clip_fraction,
            story[n].kl,
        )
        for n in (0, 4, 8, 12, 16, 20, 23)
    ]
    return Exhibit(
        title=f"After {len(story)} updates of 1,024 steps the pole stands {balanced_for(policy):.0f} of 500 steps acting greedily",
        columns=("update", "steps between falls", "variance the critic explains", "entropy (nats)", "clipped", "KL a step"),
        rows=rows,
        series=[Series(name="explained variance", x=x, y=[u.explained_variance for u in story]), Series(name="entropy", x=x, y=[u.entropy for u in story])],
        x="update", y="",
        reads="Only a fall is told, as -1. The critic first says nothing of use, then most of what will happen, and its advantages get "
        "quiet. The clip keeps each update near the policy that gathered its data.",
    )  # fmt: skip


def dqn_on_a_pole() -> Exhibit:
    """A deep Q-network with replay and a slow target learns to balance a pole."""
    before = balanced_for(q_network(4, 2))
    trained = train_dqn()
    lengths = trained.lengths
    mean = [
        sum(lengths[max(0, n - 9) : n + 1]) / len(lengths[max(0, n - 9) : n + 1]) for n in range(len(lengths))
    ]
    return Exhibit(
        title=f"1,500 updates: greedy play lasts {balanced_for(trained.net):.0f} of 500 steps, an untrained network's {before:.0f}",
        columns=("episodes", "mean length"),
        rows=[(f"{n + 1} to {n + 25}", sum(lengths[n : n + 25]) / len(lengths[n : n + 25])) for n in range(0, len(lengths), 25)],
        series=[Series(name="mean of ten episodes", x=list(range(len(mean))), y=mean)],
        x="episode", y="steps upright",
        reads="The network is told -1 at a fall and nothing else, and sees each step many times, in random order, from the buffer. It "
        "does not improve steadily: the maximum of its own guesses is what it learns from.",
    )  # fmt: skip


def values_of_three_policies() -> Exhibit:
    """What a decision process is made of, with the values of three policies that live in one."""
    mdp = gridworld(gamma=0.95)
    up_then_right = np.eye(4)[[1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]]
    cases = {
        "any move": np.full((12, 4), 0.25),
        "up, then right": up_then_right,
        "the best": np.eye(4)[value_iteration(mdp).policy],
    }
    rows = []
    for name, policy in cases.items():
        values = policy_values(mdp, policy)
        log = list(
            experience(mdp, lambda s, rng, p=policy: rng.choices(range(4), p[s])[0], steps=20_000, seed=2)
        )
        returns, total, weight = [], 0.0, 1.0
        for step in log:
            total, weight = total + weight * step.reward, weight * mdp.gamma
            if step.done:
                returns.append(total)
                total, weight = 0.0, 1.0
        seen = sum(returns) / len(returns)
        rows.append((name, float(values[mdp.start]), seen, float(values[6]), len(returns)))
    return Exhibit(
        title=f"{mdp.states} states, {mdp.actions} actions, discount {mdp.gamma}: a policy's value is the return to be expected",
        columns=("policy", "V(start), exactly", "mean return of episodes", "V(beside the pit)", "episodes"),
        rows=rows,
        reads="The value of a state is a fact about a policy, not about the state: beside the pit it is good or bad according to what one will do there. "
        "Solved as linear equations and averaged over play it is one number.",
    )  # fmt: skip
