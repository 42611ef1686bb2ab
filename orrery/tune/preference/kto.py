"""Learning from thumbs: Kahneman-Tversky optimization.

    r_i = log pi(y_i|x_i) / pi_ref(y_i|x_i),    z = max(0, mean_j log pi(y'_j|x_j) / pi_ref(y'_j|x_j))

    loss_i = w_up (1 - sigma(beta (r_i - z)))         where the thumb is up
             w_down (1 - sigma(beta (z - r_i)))       where it is down

Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8. As in prospect theory (Kahneman & Tversky 1979; Tversky & Kahneman 1992), what counts is
gain or loss against a reference point, each more of it counts less, and losses may weigh other than gains. The point z estimates the
KL divergence of policy and reference by answers y' that belong to other prompts; no gradient goes through it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.train.loss import Loss


def kto(
    policy: Tensor, reference: Tensor, up: Tensor, point: Tensor, *, beta: float = 0.1, desirable: float = 1.0,
    undesirable: float = 1.0,
) -> Loss:  # fmt: skip
    """The loss of N answers with thumbs; `accuracy` counts those on the right side of the reference point, one on it a half.

    Args:
        policy, reference: (N,) log-probabilities, nats. up: (N,) bool.
        point: the reference point z, a number (see `reference_point`).
        desirable, undesirable: what a thumb up and a thumb down weigh; with n of each, desirable n_up / (undesirable n_down) within 1 and 4/3
            is the paper's advice (eq. 9).
    """
    ratio, sign = policy - reference, torch.where(up, 1.0, -1.0).to(policy.dtype)
    losses = torch.where(up, desirable, undesirable) * (
        1 - (beta * sign * (ratio - point.detach())).sigmoid()
    )
    rewards = beta * ratio.detach()
    stats = {
        "reward_up": rewards[up].sum(), "reward_down": rewards[~up].sum(), "ups": up.sum().to(policy.dtype),
        "accuracy": ((sign * (ratio.detach() - point)).sign() + 1).sum() / 2, "point": point.detach() * len(up),
    }  # fmt: skip
    return Loss(losses.sum(), losses.new_tensor(float(len(losses))), stats)


def reference_point(policy: Tensor, reference: Tensor) -> Tensor:
    """z from log-probabilities (M,) of answers that belong to other prompts."""
    return (policy - reference).mean().clamp(min=0).detach()


def kto_value(reward: Tensor, *, beta: float = 1.0, gain: float = 1.0, loss: float = 1.0) -> Tensor:
    """What a reward r against the reference point is worth to the person KTO supposes: sigma(beta r) - 1/2, gains times `gain` and losses
    times `loss`: concave in gains, convex in losses, bounded in both."""
    value = (beta * reward).sigmoid() - 0.5
    return torch.where(reward >= 0, gain * value, loss * value)


def prospect_value(reward: Tensor, *, exponent: float = 0.88, loss_aversion: float = 2.25) -> Tensor:
    """The value that people gave to sums of money: r^a for gains, -lambda (-r)^a for losses, with the medians of Tversky & Kahneman 1992."""
    size = reward.abs() ** exponent
    return torch.where(reward >= 0, size, -loss_aversion * size)
