"""Advantages without a critic: how much better a response was than a baseline made from the others.

    none            r                                  REINFORCE (Williams 1992)
    mean            r - mean(batch)                    its oldest baseline
    leave-one-out   r - mean(the other G - 1)          RLOO (Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740)
    group           (r - mean(group)) / std(group)     GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1)
    group-centred   r - mean(group)                    Dr. GRPO (Liu et al. 2025, arXiv:2503.20783)
    global          (r - mean(batch)) / std(batch)     REINFORCE++ (Hu 2025, arXiv:2501.03262)

A baseline that does not depend on the response leaves the gradient's mean as it is and takes away variance. "none"
and "leave-one-out" are unbiased; "mean" and "group-centred" contain the response itself, which shrinks the gradient by
(G - 1) / G; dividing by a standard deviation weighs easy and hard prompts up.

A reward that is not finite is no verdict: its response counts in no baseline and gets advantage 0. So does a response
with nothing to compare it to. Where all rewards compared are equal the advantages are exactly 0.

Legend: R responses, G of them to a prompt.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["none", "mean", "leave-one-out", "group", "group-centred", "global"]

EPSILON = 1e-4
"""Added to standard deviations."""


def advantages(kind: Baseline, rewards: Tensor, group: Tensor, *, epsilon: float = EPSILON) -> Tensor:
    """One advantage a response, (R,); `advantages(...)[owner]` gives it to every token.

    Args:
        rewards: (R,), NaN where no verdict was reached.
        group: (R,) int64, the number of the prompt that a response answers, in any order.
    """
    scored = rewards.isfinite()
    r = rewards.double()[scored]  # a reward of 1e30 has a square in double precision only
    match kind:
        case "none":
            found = r
        case "mean":
            found = r - r.mean()
        case "leave-one-out":
            found = _leave_one_out(r, group[scored])
        case "group":
            found = _standardized(r, group[scored], epsilon)
        case "group-centred":
            found = _standardized(r, group[scored], None)
        case "global":
            found = whiten(r, epsilon=epsilon)
    result = torch.zeros(len(rewards), dtype=torch.float64, device=rewards.device)
    result[scored] = found
    return result.to(torch.promote_types(rewards.dtype, torch.get_default_dtype()))


def whiten(values: Tensor, *, epsilon: float = EPSILON) -> Tensor:
    """(x - mean) / (std + epsilon) over all entries; 0 if they are equal or there is one.

    REINFORCE++ whitens the advantages of all tokens of a batch, rewards-to-go with the KL penalty inside.
    """
    if values.numel() < 2 or bool((values == values.flatten()[0]).all()):
        return torch.zeros_like(values)
    return (values - values.mean()) / (values.std() + epsilon)


def spread(rewards: Tensor, group: Tensor) -> Tensor:
    """max - min of each group's finite rewards, (groups,) by ascending group number; 0 for a group without any."""
    index, count = _numbered(group)
    rewards, unscored = rewards.double(), ~rewards.isfinite()
    ends = [
        rewards.new_full((count,), side).scatter_reduce(0, index, rewards.masked_fill(unscored, side), reduce)
        for side, reduce in ((-torch.inf, "amax"), (torch.inf, "amin"))
    ]
    return torch.where(ends[0] >= ends[1], ends[0] - ends[1], 0.0)


def _leave_one_out(r: Tensor, group: Tensor) -> Tensor:
    index, count = _numbered(group)
    total = r.new_zeros(count).index_add(0, index, r)[index]
    n = torch.bincount(index, minlength=count)[index]
    alive = (n > 1) & (spread(r, group) > 0)[index]
    return torch.where(alive, r - (total - r) / (n - 1).clamp(min=1), 0.0)


def _standardized(r: Tensor, group: Tensor, epsilon: float | None) -> Tensor:
    """r - mean of its group, divided by (std + epsilon) if epsilon is given."""
    index, count = _numbered(group)
    n = torch.bincount(index, minlength=count)
    centred = r - (r.new_zeros(count).index_add(0, index, r) / n)[index]
    centred = torch.where((spread(r, group) > 0)[index], centred, 0.0)  # rounding of a mean is no signal
    if epsilon is None:
        return centred
    variance = r.new_zeros(count).index_add(0, index, centred.square()) / (n - 1).clamp(min=1)
    return centred / (variance.sqrt() + epsilon)[index]


def _numbered(group: Tensor) -> tuple[Tensor, int]:
    found, index = torch.unique(group, return_inverse=True)
    return index, len(found)
