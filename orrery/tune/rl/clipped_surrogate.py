"""The clipped surrogate: gain from moving towards good tokens, but none from moving far.

    rho = pi(token) / pi_old(token)
    L   = -min(rho A, clip(rho, 1 - low, 1 + high) A)            (Schulman et al. 2017, arXiv:1707.06347, eq. 7)

The gradient is 0 where rho > 1 + high and A > 0, or rho < 1 - low and A < 0: there the update has gone far enough in
the direction it wants. In the other direction nothing is clipped, so a large rho with A < 0 has no bound; the dual clip
bounds it by c > 1:

    L   = -max(min(rho A, clip(rho) A), c A)   where A < 0       (Ye et al. 2020, arXiv:1912.09729, eq. 5)

high > low is DAPO's Clip-Higher (Yu et al. 2025, arXiv:2503.14476, section 3.1): with one epsilon a token of probability
0.01 may rise to 0.012 only, one of 0.9 to 1.08, so rare tokens stay rare and the entropy falls.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Clipped(NamedTuple):
    """Where the gradient is 0, bool, of the shape of the ratios."""

    low: Tensor  # rho below, A negative
    high: Tensor  # rho above, A positive
    dual: Tensor  # rho above the dual clip, A negative


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Tensor:
    """The loss of each entry, of one shape with both; a ratio may be a token's or a whole response's."""
    free, held = ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages
    gain = torch.minimum(free, held)
    if dual_clip is not None:
        gain = torch.where(advantages < 0, torch.maximum(gain, dual_clip * advantages), gain)
    return -gain


def clipped(
    ratio: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Clipped:
    """Which entries `clipped_surrogate` gives no gradient."""
    beyond = torch.inf if dual_clip is None else dual_clip
    return Clipped(
        low=(ratio < 1 - clip_low) & (advantages < 0),
        high=(ratio > 1 + clip_high) & (advantages > 0),
        dual=(ratio > beyond) & (advantages < 0),
    )
