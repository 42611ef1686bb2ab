"""PPO on a small world, from the same functions that train language models: `gae`, `policy_loss`, `value_loss`.

    collect N worlds x H steps -> advantages from the critic -> some epochs of clipped updates -> collect again

(Schulman et al. 2017, arXiv:1707.06347, algorithm 1.) A pole's stretch between two ends is a response of the flat axis;
one broken off by the clock or by the horizon goes on with the critic's value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import whiten
from orrery.tune.rl.classic.cartpole import CartPoles
from orrery.tune.rl.classic.policy import SoftmaxNet, act, score
from orrery.tune.rl.explain import fractions
from orrery.tune.rl.gae import Estimates, gae
from orrery.tune.rl.policy_loss import policy_loss
from orrery.tune.rl.value_loss import explained_variance, value_loss


@dataclass(frozen=True)
class Update:
    """What one round of collecting and learning looked like."""

    mean_length: float  # steps between two ends, of the poles that fell or timed out
    explained_variance: float
    entropy: float
    clip_fraction: float
    kl: float  # nats a step, from the policy that collected


@dataclass(frozen=True)
class Collected:
    """Steps of N worlds laid world after world, (N x H,), with the owner of each stretch."""

    states: Tensor
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    owner: Tensor
    estimates: Estimates
    mean_length: float


def train_ppo(
    *, updates: int = 24, worlds: int = 32, horizon: int = 32, epochs: int = 4, minibatches: int = 8, lr: float = 5e-3,
    gamma: float = 0.98, lam: float = 0.95, entropy_bonus: float = 0.003, seed: int = 0,
) -> tuple[SoftmaxNet, list[Update]]:  # fmt: skip
    """Learn to balance poles; the policy and the story of its updates."""
    generator = torch_generator(seed, "ppo")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        policy, critic = (
            SoftmaxNet(4, 2),
            nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)),
        )
    parameters = [*policy.parameters(), *critic.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    poles, story = CartPoles(worlds, generator=generator), []
    for n in range(updates):
        optimizer.param_groups[0]["lr"] = lr * (1 - n / updates)
        seen = _collect(poles, policy, critic, horizon, gamma, lam, generator)
        advantages = whiten(seen.estimates.advantages)
        sums: dict[str, Tensor] = {}
        entropy = 0.0
        for _ in range(epochs):
            order = torch.randperm(len(seen.owner), generator=generator)
            for at in order.chunk(minibatches):
                found = score(policy, seen.states[at], seen.actions[at])
                one = torch.arange(len(at))  # steps in any order: each counts alone
                actor = policy_loss(
                    "ppo", found.logprobs - seen.logprobs[at], found.logprobs, advantages[at], one
                )
                values = critic(seen.states[at]).squeeze(1)
                regression = value_loss(values, seen.estimates.returns[at], seen.values[at], clip=0.2)
                loss = actor.mean() + 0.5 * regression.mean() - entropy_bonus * found.entropy.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 0.5)
                optimizer.step()
                sums = {name: sums.get(name, 0) + value for name, value in actor.stats.items()}
                entropy = found.entropy.mean().item()
        told = fractions(sums)
        story.append(
            Update(
                seen.mean_length,
                explained_variance(seen.values, seen.estimates.returns),
                entropy,
                told["clip_low"] + told["clip_high"],
                told["kl_old"],
            )
        )
    return policy, story


@torch.no_grad()
def _collect(
    poles: CartPoles,
    policy: SoftmaxNet,
    critic: nn.Module,
    horizon: int,
    gamma: float,
    lam: float,
    generator: torch.Generator,
) -> Collected:
    columns: list[tuple[Tensor, ...]] = []
    for step in range(horizon):
        states = poles.state
        actions = act(policy, states, generator)
        moved = poles.step(actions)
        cut = moved.timed_out | ~moved.fell if step == horizon - 1 else moved.timed_out  # goes on unseen
        columns.append(
            (states, actions, moved.reward, moved.fell | moved.timed_out, critic(moved.last).squeeze(1) * cut)
        )
    states, actions, rewards, over, beyond = (
        torch.stack(c, 1).flatten(0, 1) for c in zip(*columns, strict=True)
    )
    ends = over.clone()
    ends[horizon - 1 :: horizon] = True
    owner = ends.long().cumsum(0) - ends.long()
    values = critic(states).squeeze(1)
    estimates = gae(rewards, values, owner, gamma, lam, bootstrap=beyond[ends])
    logprobs = score(policy, states, actions).logprobs
    length = len(over) / max(int(over.sum()), 1)
    return Collected(states, actions, logprobs, values, owner, estimates, length)
