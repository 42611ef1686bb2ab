"""A step in numbers that explain themselves: a line of metrics.jsonl.

reward, accuracy, group_accuracy      means over episodes; the share of problems with one right answer or more
dead_groups                           share of groups in which all rewards are equal: they teach nothing here
entropy, kl_start, kl_old             nats a token: of the choices, from the start of the run, from before the step's updates
clip_low, clip_high, clip_dual        shares of tokens that a clip left without gradient
effective_sample_share                1 while what learns is what drew
first_ratio                           the largest |ratio - 1| of the first update: exactly 0 on policy
sampler_ratio_mean, _max              of answers that other weights drew: what learns over what drew, before any bound
correction_weight, _bounded, _share   the weights they are given: their mean, the share that bounds changed, and how many tokens of equal
                                      weight would know as much (Kish), as a share
engine_gap, served_gap                the largest difference of log-probabilities between the engine and the trainer's pass, and a pass by
                                      the engine's own kernels
length, truncated                     tokens an answer; share cut off
reflection                            share of answers with words of a second thought ("wait", "let me check"), whose rise DeepSeek-R1's
                                      report calls an aha moment (arXiv:2501.12948, table 3); words are not thought: read the samples
explain                               sentences about what looks odd and is not, and what looks fine and is not
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.dynamic_sampling import dead_groups
from orrery.tune.rl.explain import explanations, fractions
from orrery.tune.rl.importance import effective_sample_size
from orrery.tune.rl.kl import token_kl
from orrery.tune.rl.learning import Task, Updates, aggregation_of, room
from orrery.tune.rl.ratio import token_ratio
from orrery.tune.rl.trajectory import Trajectory
from orrery.tune.rl.value_loss import explained_variance

REFLECTION = re.compile(
    r"\b(?:wait|hmm|aha|actually|on second thought|let me (?:re-?)?(?:check|think|consider|evaluate)|let's (?:re-?)?(?:check|verify)|"
    r"double-check|I made a mistake|that is (?:not right|wrong))\b",
    re.IGNORECASE,
)


def of_episodes(trajectories: Sequence[Trajectory], drawn: int) -> dict[str, Any]:
    """What was drawn. `drawn`: groups that were, those that were not kept included."""
    count = len(trajectories)
    rewards = torch.tensor([one.reward for one in trajectories])
    right = torch.tensor([one.right for one in trajectories])
    group = torch.tensor([one.group for one in trajectories])
    solved = {one.group for one in trajectories if one.right > 0}
    lengths = torch.tensor([float(len(one.written)) for one in trajectories])
    parts = {name: sum(one.parts[name] for one in trajectories) / count for name in trajectories[0].parts}
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(correction=0)),
        **{f"reward_{name}": value for name, value in parts.items() if len(parts) > 1},
        "accuracy": float(right.mean()),
        "group_accuracy": len(solved) / len({one.group for one in trajectories}),
        "dead_groups": float(dead_groups(rewards, group).double().mean()),
        "groups_drawn": drawn,
        "length": float(lengths.mean()),
        "length_max": int(lengths.max()),
        "turns": sum(len(one.turns) for one in trajectories) / count,
        "truncated": sum(one.truncated for one in trajectories) / count,
        "reflection": sum(bool(REFLECTION.search(one.turns[-1].raw)) for one in trajectories) / count,
    }


def of_updates(cfg: RlConfig, task: Task, done: Updates) -> dict[str, Any]:
    """What was learned."""
    axis, before = task.axis, task.before
    line: dict[str, Any] = {
        **fractions(done.sums),
        "entropy": float(done.sums["entropy"] / done.sums["tokens"]),
        "first_ratio": done.first_ratio,
        "advantage_abs": float(task.credit.advantages.abs().mean()),
        "explain": explanations(
            rewards=task.credit.rewards, group=axis.group, advantages=task.credit.advantages,
            log_ratio=torch.full_like(axis.sampler, 1.0 if cfg.parts.loss == "reinforce" else done.first_ratio), owner=axis.owner, aggregation=aggregation_of(cfg),
            max_length=room(cfg),
        ),
    }  # fmt: skip
    if before.reference is not None:
        line["kl_start"] = float(
            token_kl(done.seen if before.old is None else before.old, before.reference).mean()
        )
    if before.weights is not None:
        line["correction_weight"] = float(before.weights.mean())
        line["correction_bounded"] = before.bounded / max(len(axis.owner), 1)
        line["correction_share"] = effective_sample_size(before.weights) / max(len(axis.owner), 1)
    if before.old is not None and not cfg.on_policy:
        ratio = token_ratio(before.old - axis.sampler)
        line["sampler_ratio_mean"], line["sampler_ratio_max"] = float(ratio.mean()), float(ratio.max())
    if before.values is not None and task.credit.returns is not None:
        line["value_loss"] = float(done.sums["value_loss"] / done.sums["tokens"])
        line["explained_variance"] = explained_variance(before.values, task.credit.returns)
    return line
