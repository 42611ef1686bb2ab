"""The updates of a step: one batch of episodes with its advantages, over and over in minibatches.

    L = L_policy + beta KL - c H + v L_value [+ mu L_positive]

Each term is a sum over tokens, divided by what it weighs in the whole minibatch before anything is added up; so the loss that the
training step sees is the mean already, and how a minibatch was cut into passes does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from orrery.train.loss import Loss
from orrery.train.optim.joint import JointOptimizer
from orrery.train.precision import LossScaler
from orrery.train.step import Outcome, Setup, Totals, update
from orrery.tune.rl.aggregate import Aggregation, aggregate
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.credit import Credit
from orrery.tune.rl.entropy import forking_tokens
from orrery.tune.rl.environment import turns_of
from orrery.tune.rl.importance import importance_weights, off_policy_mask
from orrery.tune.rl.kl import token_kl
from orrery.tune.rl.packing import Axis, Micro
from orrery.tune.rl.policy_loss import PUBLISHED, policy_loss
from orrery.tune.rl.positive_examples import positive_example_loss
from orrery.tune.rl.reading import Read, Reader
from orrery.tune.rl.value_loss import value_loss


@dataclass(kw_only=True)
class Before:
    """What was known of the tokens before the first update, all (T,).

    Attributes:
        old: log-probabilities; None where there is one update only, whose own pass says them.
        entropy: of the choices. reference: log-probabilities at the start of the run. weights: see `importance`.
    """

    old: Tensor | None = None
    entropy: Tensor | None = None
    values: Tensor | None = None
    reference: Tensor | None = None
    weights: Tensor | None = None
    bounded: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A step's episodes, ready to be learned from."""

    axis: Axis
    parts: Sequence[Sequence[Micro]]
    before: Before
    credit: Credit
    right: Tensor
    """(T,) bool: tokens of episodes whose verdict was right."""
    beta: float
    entropy: float
    counts: Tensor | None = None
    """(T,) what each token counts in the policy's loss; None: all alike."""


@dataclass(kw_only=True)
class Updates:
    """What the updates of a step did: each one's outcome, and sums over all their tokens."""

    seen: Tensor
    """(T,) log-probabilities as the first passes saw them."""
    outcomes: list[Outcome] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    first_ratio: float = 0.0
    """The largest |ratio - 1| of the first update: 0 where what learns is what drew."""


def aggregation_of(cfg: RlConfig) -> Aggregation:
    """How tokens become one loss under the run's algorithm."""
    return PUBLISHED[cfg.parts.loss].aggregation


def room(cfg: RlConfig) -> int:
    """The most tokens that an episode may write."""
    return cfg.rollout.max_tokens * turns_of(cfg.environment)


def correct(cfg: RlConfig, axis: Axis, before: Before, advantages: Tensor) -> Before:
    """With the importance weights that the run asks for."""
    rules = cfg.correction
    if rules is None or before.old is None:
        return before
    found = importance_weights(
        before.old,
        axis.sampler,
        axis.owner,
        level=rules.level,
        rule=rules.rule,
        low=rules.low,
        high=rules.high,
    )
    weights = found.weights
    if rules.drift is not None:
        kept = off_policy_mask(before.old, axis.sampler, advantages, axis.owner, threshold=rules.drift)
        weights = weights * kept
    return replace(before, weights=weights, bounded=found.bounded)


def counted(cfg: RlConfig, before: Before) -> Tensor | None:
    """(T,) what each token counts in the policy's loss; None: all alike."""
    if cfg.entropy.forking is None or before.entropy is None:
        return before.weights
    forks = forking_tokens(before.entropy, cfg.entropy.forking).to(before.entropy.dtype)
    return forks if before.weights is None else before.weights * forks


def learn(
    cfg: RlConfig, setup: Setup, task: Task, reader: Reader, optimizer: JointOptimizer, scaler: LossScaler, *,
    only_critic: bool, stop: bool,
) -> Updates:  # fmt: skip
    """Take the updates of a step. A minibatch without a finite gradient is left out, as in `train.step`."""
    done = Updates(seen=torch.zeros_like(task.axis.sampler))
    for epoch in range(cfg.epochs):
        for n, part in enumerate(task.parts):
            setup.model.zero_grad(set_to_none=True)
            totals, weighs = Totals(), _weights(cfg, task, part)
            for micro in part:
                with setup.precision.autocast():
                    read = reader(micro)
                    loss = _loss(cfg, task, micro, read, weighs, only_critic=only_critic)
                totals.sums = {
                    "loss": totals.sums.get("loss", torch.zeros(())) + loss.sum.detach(),
                    "weight": torch.ones((), dtype=torch.float64),
                }
                scaler.scale(loss.sum).backward()
                for name, value in loss.stats.items():
                    done.sums[name] = (
                        done.sums.get(name, torch.zeros((), dtype=torch.float64)) + value.double()
                    )
                if epoch == 0:
                    done.seen[micro.at] = read.logprobs.detach()
                if epoch == n == 0 and task.before.old is not None:
                    gap = read.logprobs.detach() - task.before.old[micro.at]
                    done.first_ratio = max(done.first_ratio, float((gap.exp() - 1).abs().max()))
            tokens = sum(len(micro.batch) for micro in part)
            done.outcomes.append(update(setup, optimizer, scaler, totals, tokens=tokens, stop=stop))
    return done


def _weights(cfg: RlConfig, task: Task, part: Sequence[Micro]) -> dict[str, Tensor]:
    """What each term of a minibatch is divided by."""
    owner = torch.cat([task.axis.owner[micro.at] for micro in part])
    right = torch.cat([task.right[micro.at] for micro in part])
    policy = aggregate(torch.zeros(len(owner)), owner, aggregation_of(cfg), max_length=room(cfg)).weight
    return {
        "policy": policy,
        "value": torch.tensor(float(len(owner))),
        "positive": right.sum().clamp(min=1).float(),
    }


def _loss(
    cfg: RlConfig, task: Task, micro: Micro, read: Read, weighs: dict[str, Tensor], *, only_critic: bool
) -> Loss:
    """The loss of one pass, divided already; `stats` are sums over its tokens."""
    parts, before, at = cfg.parts, task.before, micro.at
    owner = task.axis.owner[at]
    log_ratio = read.logprobs - (read.logprobs.detach() if before.old is None else before.old[at])
    policy = policy_loss(
        parts.loss, log_ratio, read.logprobs, task.credit.advantages[at], owner, clip_low=parts.clip_low,
        clip_high=parts.clip_high, dual_clip=parts.dual_clip, max_length=room(cfg),
        weights=None if task.counts is None else task.counts[at],
    )  # fmt: skip
    total, stats = policy.sum / weighs["policy"], dict(policy.stats)
    stats["entropy"] = read.entropy.detach().sum()

    def with_policy(values: Tensor) -> Tensor:
        return aggregate(values, owner, aggregation_of(cfg), max_length=room(cfg)).sum / weighs["policy"]

    if before.reference is not None and cfg.kl.beta and cfg.kl.place == "loss":
        total = total + task.beta * with_policy(
            token_kl(read.logprobs, before.reference[at], cfg.kl.estimator or "k3", log_ratio=log_ratio)
        )
    if task.entropy:
        total = total - task.entropy * with_policy(read.entropy)
    if parts.positive:
        imitated = positive_example_loss(read.logprobs, task.right[at])
        total = total + parts.positive * imitated.sum / weighs["positive"]
    if parts.critic is not None and read.values is not None:
        assert task.credit.returns is not None and before.values is not None
        missed = value_loss(read.values, task.credit.returns[at], before.values[at], clip=parts.critic.clip)
        value = missed.sum / weighs["value"] * parts.critic.coefficient
        stats["value_loss"] = missed.sum.detach()
        total = value if only_critic else total + value
    return Loss(total, total.new_ones(()), stats)
