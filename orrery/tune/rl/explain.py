"""What the numbers of a policy update mean, in fractions and in sentences.

Three things surprise everyone once. The loss of the first pass over fresh samples is 0 although the model learns: the ratio
is exactly 1 and the advantages of a group sum to 0; only the gradient is not 0. A loss of 0 because every group is dead
looks the same and teaches nothing. And a loss that does not fall is no fault: the data change with the policy; watch the
reward.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orrery.tune.rl.aggregate import Aggregation, aggregate
from orrery.tune.rl.dynamic_sampling import dead_groups


def fractions(stats: Mapping[str, Tensor]) -> dict[str, float]:
    """The sums of `policy_loss` over one or more micro-batches, divided: means and shares of tokens.

    Returns:
        "ratio_mean", "kl_old" (nats a token), "clip_low", "clip_high", "clip_dual" (shares of tokens without gradient) and
        "effective_sample_share" ((sum rho)^2 / (T sum rho^2), 1 on policy).
    """
    tokens = max(float(stats["tokens"]), 1.0)  # answers may all be empty
    square = float(stats["ratio_squared"])
    return {
        "ratio_mean": float(stats["ratio"]) / tokens,
        "kl_old": float(stats["kl_old"]) / tokens,
        "clip_low": float(stats["clipped_low"]) / tokens,
        "clip_high": float(stats["clipped_high"]) / tokens,
        "clip_dual": float(stats["clipped_dual"]) / tokens,
        "effective_sample_share": float(stats["ratio"]) ** 2 / (tokens * square) if square > 0 else 0.0,
    }


def explanations(
    *,
    rewards: Tensor,
    group: Tensor,
    advantages: Tensor,
    log_ratio: Tensor,
    owner: Tensor,
    aggregation: Aggregation,
    max_length: int | None = None,
) -> list[str]:
    """Sentences about a batch whose loss needs one; none where there is nothing to say.

    Args:
        rewards, group: (R,) of the responses; advantages, log_ratio, owner: (T,) of their tokens, of a ratio's loss (not of
            "reinforce").
    """
    found = []
    dead = dead_groups(rewards, group)
    unread = int((~rewards.isfinite()).sum())
    if unread:
        found.append(f"{unread} of {len(rewards)} rewards are not numbers; their responses have advantage 0")
    if not bool(advantages.any()):
        found.append(
            f"every advantage is 0 ({int(dead.sum())} of {len(dead)} groups have equal rewards), so loss and gradient are 0 by "
            "construction: nothing is learned from this batch"
        )
        return found
    if bool(dead.any()):
        found.append(
            f"{int(dead.sum())} of {len(dead)} groups are dead: equal rewards, so advantage 0 and no gradient"
        )
    if not bool(log_ratio.any()) and _cancels(advantages, owner, aggregation, max_length):
        found.append(
            "the loss is 0 here by construction: the ratio is exactly 1 (first pass over fresh samples) and the advantages sum to "
            "0; the gradient is not 0. Watch the reward"
        )
    return found


def _cancels(advantages: Tensor, owner: Tensor, aggregation: Aggregation, max_length: int | None) -> bool:
    """Whether the weighted advantages sum to 0 up to rounding."""
    total = aggregate(advantages, owner, aggregation, max_length=max_length).sum.abs()
    size = aggregate(advantages.abs(), owner, aggregation, max_length=max_length).sum
    return bool(total <= 100 * torch.finfo(advantages.dtype).eps * size)
