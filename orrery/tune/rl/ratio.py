"""The importance ratio of tokens, and of whole responses.

    token      rho_t = exp(log pi(y_t) - log pi_old(y_t))
    sequence   s     = exp(mean_t (log pi(y_t) - log pi_old(y_t)))      GSPO (Zheng et al. 2025, arXiv:2507.18071, eq. 7)

The reward belongs to the response, so GSPO gives all its tokens one ratio: the geometric mean of theirs, which keeps
responses of all lengths in one range. It varies less than single tokens' do, and its clip is narrow, around 4e-4.
"""

from __future__ import annotations

from torch import Tensor

from orrery.tune.rl.responses import response_means, runs

MAX_LOG_RATIO = 20.0
"""Ratios are held within e^-20 and e^20: beyond it is a fault, and infinity would spoil the whole batch."""


def token_ratio(log_ratio: Tensor) -> Tensor:
    """exp of (T,), held within e^20 (no gradient beyond)."""
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def sequence_ratio(log_ratio: Tensor, owner: Tensor) -> Tensor:
    """The ratio of each token's response, (T,)."""
    return token_ratio(response_means(log_ratio, owner))[runs(owner).index]
