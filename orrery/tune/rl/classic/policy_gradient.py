"""The policy gradient: how to climb an expectation whose samples come from what is being changed.

    grad E_pi[R] = E_pi[R grad log pi]              the score function, or likelihood ratio (Glynn 1990; Williams 1992)
                 = E_pi[(R - b) grad log pi]        for any b that does not depend on the action

R itself needs no gradient: it may be a program's verdict. The price is variance, and b the first remedy. For a table of
probabilities p the gradient is known exactly, p_a (R_a - E[R]), and estimates can be held against it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.kit.seeds import key, torch_generator
from orrery.tune.rl.advantage import Baseline, advantages
from orrery.tune.rl.classic.mdp import MarkovDecisionProcess
from orrery.tune.rl.classic.policy import SoftmaxTable, score
from orrery.tune.rl.policy_loss import policy_loss
from orrery.tune.rl.returns import reward_to_go


def exact_gradient(logits: Tensor, rewards: Tensor) -> Tensor:
    """d E[R] / d logits of softmax(logits), (A,)."""
    p = logits.softmax(0)
    return p * (rewards - p @ rewards)


def gradient_estimates(
    logits: Tensor, rewards: Tensor, kind: Baseline, *, samples: int, trials: int, seed: int = 0
) -> Tensor:
    """`trials` estimates of the gradient, (trials, A), each from `samples` actions as one group.

    A group of a trial is compared within itself only, also where the baseline is the batch's.
    """
    p = logits.softmax(0)
    drawn = torch.multinomial(
        p, samples * trials, replacement=True, generator=torch_generator(seed, "estimates")
    )
    scores = torch.eye(len(p), dtype=p.dtype)[drawn] - p  # grad log pi of each draw
    group = torch.arange(trials).repeat_interleave(samples)
    same = "group-centred" if kind == "mean" else kind
    found = advantages(same, rewards[drawn], group)
    return (found[:, None] * scores).view(trials, samples, -1).mean(1)


@dataclass(frozen=True)
class Episodes:
    """Episodes end to end: (T,) each."""

    states: Tensor
    actions: Tensor
    rewards: Tensor
    owner: Tensor


def play(
    mdp: MarkovDecisionProcess, policy: SoftmaxTable, *, episodes: int, longest: int, rng: random.Random
) -> Episodes:
    """Whole episodes under the policy, broken off after `longest` steps."""
    p = policy.logits.detach().softmax(-1).tolist()
    rows: list[tuple[int, int, float, int]] = []
    for n in range(episodes):
        state = mdp.start
        for _ in range(longest):
            action = rng.choices(range(mdp.actions), p[state])[0]
            moved = mdp.step(state, action, rng)
            rows.append((state, action, moved.reward, n))
            state = moved.next_state
            if moved.done:
                break
    states, actions, rewards, owner = zip(*rows, strict=True)
    return Episodes(torch.tensor(states), torch.tensor(actions), torch.tensor(rewards), torch.tensor(owner))


def reinforce(
    mdp: MarkovDecisionProcess,
    *,
    updates: int = 60,
    episodes: int = 16,
    lr: float = 1.0,
    longest: int = 60,
    seed: int = 0,
) -> tuple[SoftmaxTable, list[float]]:
    """REINFORCE with the reward-to-go and the batch's mean as its baseline; the policy, and the mean return of every update."""
    policy, rng = SoftmaxTable(mdp.states, mdp.actions), random.Random(key(seed, "reinforce"))
    optimizer = torch.optim.SGD(policy.parameters(), lr=lr)
    means = []
    for _ in range(updates):
        seen = play(mdp, policy, episodes=episodes, longest=longest, rng=rng)
        returns = reward_to_go(seen.rewards, seen.owner, mdp.gamma)
        logprobs = score(policy, seen.states, seen.actions).logprobs
        advantage = returns - returns.mean()
        optimizer.zero_grad()
        policy_loss(
            "reinforce", logprobs - logprobs.detach(), logprobs, advantage, seen.owner
        ).mean().backward()
        optimizer.step()
        means.append(seen.rewards.sum().item() / episodes)
    return policy, means
