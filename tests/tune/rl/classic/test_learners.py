"""Learning from experience: the estimated gradient against the exact one, REINFORCE, PPO and DQN on small worlds."""

from __future__ import annotations

import math

import pytest
import torch

from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import Baseline
from orrery.tune.rl.classic.actor_critic import train_ppo
from orrery.tune.rl.classic.bellman import policy_values, value_iteration
from orrery.tune.rl.classic.cartpole import CartPoles
from orrery.tune.rl.classic.dqn import ReplayBuffer, balanced_for, dqn_loss, q_network, train_dqn
from orrery.tune.rl.classic.gridworld import gridworld
from orrery.tune.rl.classic.policy import SoftmaxTable, act, score
from orrery.tune.rl.classic.policy_gradient import exact_gradient, gradient_estimates, reinforce

LOGITS = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64)
REWARDS = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)


def test_the_exact_gradient_is_autograds() -> None:
    logits = LOGITS.clone().requires_grad_()
    (logits.softmax(0) @ REWARDS).backward()
    torch.testing.assert_close(exact_gradient(LOGITS, REWARDS), logits.grad)


@pytest.mark.parametrize("kind", ["none", "leave-one-out"])
def test_estimates_have_the_exact_mean(kind: Baseline) -> None:
    found = gradient_estimates(LOGITS, REWARDS, kind, samples=4, trials=20_000)
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact_gradient(LOGITS, REWARDS)).abs() < 4 * error).all()


def test_a_baseline_takes_variance_away() -> None:
    spread = {
        kind: float(gradient_estimates(LOGITS, REWARDS + 10, kind, samples=4, trials=2000).var(0).sum())
        for kind in ("none", "leave-one-out")
    }
    assert spread["leave-one-out"] < spread["none"] / 50


def test_a_policy_samples_what_it_scores() -> None:
    policy = SoftmaxTable(1, 3)
    with torch.no_grad():
        policy.logits[0] = LOGITS.float()
    states = torch.zeros(20_000, dtype=torch.int64)
    drawn = act(policy, states, torch_generator(0, "policy"))
    found = score(policy, states[:3], torch.arange(3))
    torch.testing.assert_close(found.logprobs.exp(), torch.bincount(drawn) / 20_000, rtol=0, atol=0.02)
    p = LOGITS.softmax(0)
    torch.testing.assert_close(found.entropy[0].double(), -(p @ p.log()), rtol=0, atol=1e-6)


def test_reinforce_raises_the_return_on_a_grid() -> None:
    mdp = gridworld()
    policy, means = reinforce(mdp, updates=40)
    start = policy_values(mdp, torch.full((12, 4), 0.25).double().numpy())[mdp.start]
    end = policy_values(mdp, policy.logits.detach().softmax(-1).double().numpy())[mdp.start]
    best = value_iteration(mdp).values[mdp.start]
    assert start < -0.5 < 0.3 < end < best
    assert sum(means[-10:]) > sum(means[:10])


def test_a_pole_let_go_falls_and_starts_anew() -> None:
    poles = CartPoles(3, generator=torch_generator(0, "poles"))
    ends = 0
    for _ in range(40):
        moved = poles.step(torch.ones(3, dtype=torch.int64))  # always to the right
        ends += int(moved.fell.sum())
        assert (moved.reward == -moved.fell.float()).all()
        assert (moved.observation[moved.fell].abs() <= 0.05).all()
    assert ends >= 9  # within ten steps each


def test_one_step_of_the_pole_by_hand() -> None:
    poles = CartPoles(1, generator=torch_generator(0, "poles"))
    poles.state = torch.tensor([[0.0, 0.0, 0.1, 0.0]])
    last = poles.step(torch.tensor([1])).last[0]
    push = 10 / 1.1
    spin = (9.8 * math.sin(0.1) - math.cos(0.1) * push) / (0.5 * (4 / 3 - 0.1 * math.cos(0.1) ** 2 / 1.1))
    slide = push - 0.05 * spin * math.cos(0.1) / 1.1
    torch.testing.assert_close(last, torch.tensor([0.0, 0.02 * slide, 0.1, 0.02 * spin]))


def test_the_clock_ends_an_episode_without_a_fall() -> None:
    poles = CartPoles(1, generator=torch_generator(0, "poles"), limit=2)
    poles.step(torch.tensor([0]))
    moved = poles.step(torch.tensor([1]))
    assert bool(moved.timed_out) and not bool(moved.fell)


def test_the_target_of_dqn_by_hand() -> None:
    net, target = q_network(1, 2), q_network(1, 2)
    for n, values in ((net, [1.0, 2.0]), (target, [5.0, 3.0])):
        for p in n.parameters():
            torch.nn.init.zeros_(p)
        n[-1].bias.data = torch.tensor(values)
    batch = (
        torch.zeros(2, 1),
        torch.tensor([0, 1]),
        torch.tensor([0.5, -1.0]),
        torch.zeros(2, 1),
        torch.tensor([0.0, 1.0]),
    )
    # the net chooses action 1, the target values it 3: 0.5 + 0.9 * 3 = 3.2 against 1; at the end -1 against 2
    assert dqn_loss(net, target, batch, 0.9).item() == pytest.approx((2.2 - 0.5 + 3 - 0.5) / 2)


def test_the_buffer_forgets_the_oldest() -> None:
    poles, buffer = CartPoles(2, generator=torch_generator(0, "poles")), ReplayBuffer(4, 4)
    for n in range(3):
        buffer.add(
            torch.full((2, 4), float(n)), torch.zeros(2, dtype=torch.int64), poles.step(torch.ones(2).long())
        )
    assert sorted(buffer.seen[:, 0].tolist()) == [1.0, 1.0, 2.0, 2.0]


def test_ppo_learns_to_balance() -> None:
    policy, story = train_ppo(updates=24)
    assert balanced_for(policy) > 150
    assert story[-1].explained_variance > 0.3 > story[0].explained_variance
    assert max(update.kl for update in story) < 0.05


def test_dqn_learns_to_balance() -> None:
    trained = train_dqn()
    assert balanced_for(trained.net) > 80
    assert sum(trained.lengths[:20]) < 20 * 40
