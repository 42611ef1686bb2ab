"""Staying near a reference policy: estimates of the divergence, the penalty in the reward or in the loss, and its size.

    KL(pi || ref) from tokens drawn from pi, with l = log ref - log pi:
        k1 = -l        k2 = l^2 / 2        k3 = e^l - 1 - l               (Schulman 2020, "Approximating KL divergence")

In the reward (Ziegler et al. 2019, arXiv:1909.08593) the estimate is a constant and k1 is the honest choice. In a loss it is
differentiated, and what counts is the mean of that gradient: of k1 it is 0, of k2 it is the gradient of KL(pi || ref), of k3
that of KL(ref || pi) (Tang & Munos 2025, arXiv:2506.09477). Times the importance ratio with its gradient, k3 has the right
gradient too, also for tokens drawn from an older policy (DeepSeek-V3.2 2025, arXiv:2512.02556, section 3.1).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from orrery.train.basic_losses import kl_estimate
from orrery.tune.rl.ratio import MAX_LOG_RATIO, token_ratio
from orrery.tune.rl.responses import at_last_token

Estimator = Literal["k1", "k2", "k3"]


def token_kl(
    logprobs: Tensor, reference: Tensor, kind: Estimator = "k3", *, log_ratio: Tensor | None = None
) -> Tensor:
    """Estimates of KL(pi || ref), one a token, (T,); exactly 0 where both agree.

    Args:
        logprobs, reference: (T,) log-probabilities of the sampled tokens, the first with gradient.
        log_ratio: (T,) against the sampling policy, with gradient: the estimates times the ratio, for a gradient without bias.
    """
    gap = (reference - logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    found = kl_estimate(-gap, gap.new_zeros(()), kind)
    return found if log_ratio is None else token_ratio(log_ratio) * found


def rewards_with_kl(
    rewards: Tensor,
    logprobs: Tensor,
    reference: Tensor,
    owner: Tensor,
    *,
    beta: float,
    kind: Estimator = "k1",
) -> Tensor:
    """Token rewards (T,): -beta KL_t at every token, and the response's reward (R,) at its last besides.

    (Ziegler et al. 2019, eq. 2; Ouyang et al. 2022, arXiv:2203.02155, eq. 2.) No gradient.
    """
    penalty = token_kl(logprobs.detach(), reference.detach(), kind)
    return at_last_token(rewards.to(penalty.dtype), owner) - beta * penalty


def proportional_beta(beta: float, kl: float, *, target: float, horizon: float, samples: int) -> float:
    """beta (1 + e n / horizon), e = clip(kl / target - 1, -0.2, 0.2): Ziegler et al. 2019, section 2.2."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + error * samples / horizon)


def stepwise_beta(beta: float, kl: float, *, target: float) -> float:
    """Half of beta where kl < target / 1.5, twice where kl > 1.5 target: Schulman et al. 2017, section 4."""
    if kl < target / 1.5:
        return beta / 2
    return beta * 2 if kl > 1.5 * target else beta
