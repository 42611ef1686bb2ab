"""What a response pays for its length.

    0                              l <= L - B
    ((L - B) - l) / B              L - B < l <= L           soft overlong punishment
    -1                             L < l                    (Yu et al. 2025, arXiv:2503.14476, eq. 13)

A response cut off at the limit has no verdict of its own: without shaping, sound reasoning that ran out of room is
punished like a wrong one. The ramp B tells the policy before that it gets near; `overlong_filter` leaves those cut off
out of the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


def overlong_penalty(lengths: Tensor, *, limit: int, buffer: int) -> Tensor:
    """The penalty of responses of `lengths` (R,) tokens, in [-1, 0].

    Args:
        limit: L, in tokens.
        buffer: B, of those the last, over which the penalty grows; 0 is a hard limit.
    """
    excess = (lengths - (limit - buffer)).to(torch.get_default_dtype())
    ramp = excess / buffer if buffer else torch.where(excess > 0, torch.inf, 0.0)
    return 0 - ramp.clamp(0, 1)  # not -0


def overlong_filter(rewards: Tensor, truncated: Tensor) -> Tensor:
    """Rewards (R,) with those of truncated responses (R,) bool taken back: NaN, no verdict, so advantage 0."""
    return rewards.masked_fill(truncated, torch.nan)
