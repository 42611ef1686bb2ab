"""A language of ten digits and a policy of tables that learns it in a second, for exhibits of policy-gradient methods.

A prompt is a digit s; an answer is two digits, right if their sum ends in s: ten of a hundred answers are right, so a
policy may know one or stay able to say all of them. The policy is one row of logits for (prompt, what was written).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from orrery.kit.seeds import torch_generator
from orrery.tune.rl.advantage import Baseline, advantages, whiten
from orrery.tune.rl.classic.policy import SoftmaxTable, act, score
from orrery.tune.rl.dynamic_sampling import dead_groups
from orrery.tune.rl.explain import fractions
from orrery.tune.rl.policy_loss import Kind, policy_loss

PROMPTS, DIGITS = 4, 10


@dataclass
class History:
    """One number an update (the mean over its passes)."""

    reward: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)  # nats a token
    dead: list[float] = field(default_factory=list)  # share of groups
    first_gap: list[float] = field(default_factory=list)  # largest |ratio - 1| before the first of the passes
    clip_low: list[float] = field(default_factory=list)
    clip_high: list[float] = field(default_factory=list)
    answers: list[float] = field(
        default_factory=list
    )  # different right ones a prompt that have 1 in 100 or more


def fresh() -> SoftmaxTable:
    """The policy before it has learned anything: every answer has 1 in 100."""
    return SoftmaxTable(PROMPTS * (DIGITS + 1), DIGITS)


def draw(policy: SoftmaxTable, prompts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """States and digits written, (2 R,) each, two tokens a response, for prompts (R,)."""
    before = prompts * (DIGITS + 1)
    first = act(policy, before, generator)
    second = act(policy, before + 1 + first, generator)
    states, digits = torch.stack([before, before + 1 + first], 1), torch.stack([first, second], 1)
    return states.flatten(), digits.flatten()


def right(prompts: Tensor, digits: Tensor) -> Tensor:
    """1 for right answers, (R,)."""
    return (digits.view(-1, 2).sum(1) % DIGITS == prompts).float()


def train(
    kind: Kind, baseline: Baseline, *, updates: int = 60, group: int = 16, passes: int = 4, lr: float = 20.0,
    clip_low: float | None = None, clip_high: float | None = None, entropy_bonus: float = 0.0, keep_every: int = 1, judge: Callable[[Tensor, Tensor], Tensor] = right,
    seed: int = 0,
) -> tuple[SoftmaxTable, History]:  # fmt: skip
    """`updates` rounds of: draw a group for each prompt, then `passes` steps of plain gradient descent on it.

    Args:
        keep_every: a fresh draw is made every so many updates only; between, the old one is learned from again.
        judge: (prompts, digits) -> the rewards.
    """
    policy, history, generator = fresh(), History(), torch_generator(seed, "sums")
    prompts = torch.arange(PROMPTS).repeat_interleave(group)
    owner = torch.arange(len(prompts)).repeat_interleave(2)
    seen = _collect(policy, prompts, owner, baseline, judge, generator)
    for update in range(updates):
        if update and update % keep_every == 0:
            seen = _collect(policy, prompts, owner, baseline, judge, generator)
        sums: dict[str, Tensor] = {}
        for n in range(passes):
            found = score(policy, seen.states, seen.digits)
            log_ratio = found.logprobs - seen.logprobs
            if n == 0:
                history.first_gap.append(log_ratio.detach().expm1().abs().max().item())
            loss = policy_loss(
                kind, log_ratio, found.logprobs, seen.advantages, owner, clip_low=clip_low, clip_high=clip_high, max_length=2,
            )  # fmt: skip
            (slope,) = torch.autograd.grad(
                loss.mean() - entropy_bonus * found.entropy.mean(), [policy.logits]
            )
            with torch.no_grad():
                policy.logits.sub_(lr * slope)
            sums = {name: sums.get(name, 0) + value for name, value in loss.stats.items()}
        told = fractions(sums)
        history.reward.append(seen.rewards.mean().item())
        history.entropy.append(score(policy, seen.states, seen.digits).entropy.mean().item())
        history.dead.append(dead_groups(seen.rewards, prompts).double().mean().item())
        history.clip_low.append(told["clip_low"])
        history.clip_high.append(told["clip_high"])
        history.answers.append(known(policy))
    return policy, history


class _Seen(NamedTuple):
    states: Tensor
    digits: Tensor
    rewards: Tensor
    advantages: Tensor
    logprobs: Tensor


def _collect(
    policy: SoftmaxTable,
    prompts: Tensor,
    owner: Tensor,
    baseline: Baseline,
    judge: Callable[[Tensor, Tensor], Tensor],
    generator: torch.Generator,
) -> _Seen:
    states, digits = draw(policy, prompts, generator)
    rewards = judge(prompts, digits)
    found = advantages(baseline, rewards, prompts)[owner]
    found = whiten(found) if baseline == "global" else found
    with torch.no_grad():
        return _Seen(states, digits, rewards, found, score(policy, states, digits).logprobs)


@torch.no_grad()
def known(policy: SoftmaxTable) -> float:
    """Right answers of probability 1 in 100 or more, mean over prompts."""
    p = policy.logits.softmax(-1).view(PROMPTS, DIGITS + 1, DIGITS)
    joint = p[:, 0, :, None] * p[:, 1:]  # (prompt, first, second)
    digit = torch.arange(DIGITS)
    fits = (digit[:, None] + digit) % DIGITS == torch.arange(PROMPTS)[:, None, None]
    return float(((joint >= 0.01) & fits).sum((1, 2)).double().mean())


def tail(values: list[float], n: int = 10) -> float:
    """Mean of the last n."""
    return sum(values[-n:]) / n
