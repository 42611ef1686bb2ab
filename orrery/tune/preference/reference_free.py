"""Losses on pairs of answers (P,) that need no reference model, from the policy's log-probabilities alone.

    l = log pi(y|x), summed over an answer's tokens;  m = l / |y|

    CPO     -log sigma(beta (l_w - l_l)) + alpha (-m_w)            Xu et al. 2024, arXiv:2401.08417, eq. 3 to 5
    SimPO   -log sigma(beta (m_w - m_l) - gamma)                   Meng et al. 2024, arXiv:2405.14734, eq. 6
    ORPO    -m_w + lambda (-log sigma(log odds_w - log odds_l)),   odds = p / (1 - p), p = exp(m)
                                                                   Hong et al. 2024, arXiv:2403.07691, eq. 6 and 7

Nothing holds such a policy near its start but the term that learns the better answers (CPO, ORPO), and lengths and a margin (SimPO): look
at the drift of the log-probabilities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.train.loss import Loss
from orrery.tune.preference.direct import compared


def simpo(
    chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor], *, beta: float = 2.0, gamma: float = 1.0,
    label_smoothing: float = 0.0,
) -> Loss:  # fmt: skip
    """Simple preference optimization: the reward is the mean log-probability of a token, which is also what ranks answers when the model
    speaks, and the better answer has to lead by `gamma`.

    Args:
        chosen, rejected: (P,) log-probabilities, nats. lengths: (P,) tokens of the chosen and of the rejected answers.
    """
    won, lost = beta * chosen / lengths[0], beta * rejected / lengths[1]
    z = won - lost - gamma
    losses = -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)
    return compared(losses, won, lost)


def cpo(
    chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor], *, beta: float = 0.1, alpha: float = 1.0,
    label_smoothing: float = 0.0,
) -> Loss:  # fmt: skip
    """Contrastive preference optimization: DPO with a uniform reference, and `alpha` of the better answers' nats a token."""
    won, lost = beta * chosen, beta * rejected
    z = won - lost
    losses = -(1 - label_smoothing) * F.logsigmoid(z) - label_smoothing * F.logsigmoid(-z)
    return imitating(compared(losses, won, lost), chosen, lengths[0], weight=alpha)


def orpo(
    chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor], *, weight: float = 0.1
) -> Loss:  # fmt: skip
    """Odds ratio preference optimization: learning the better answers, with `weight` (the paper's lambda) of a term by which the odds of
    the worse ones fall behind. It takes the place of supervised tuning and preference tuning in one."""
    won, lost = chosen / lengths[0], rejected / lengths[1]
    ratio = (won - lost) - (log1mexp(won) - log1mexp(lost))
    odds = compared(-weight * F.logsigmoid(ratio), weight * won, weight * lost)
    odds.stats["log_odds_ratio"] = ratio.detach().sum()
    return imitating(odds, chosen, lengths[0], weight=1.0)


def imitating(loss: Loss, chosen: Tensor, length: Tensor, *, weight: float) -> Loss:
    """The loss with `weight` of each better answer's nats a token (Pang et al. 2024, arXiv:2404.19733, eq. 1, for DPO)."""
    return loss.plus("imitation", -weight * (chosen / length).sum())


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact near 0 and far from it (Maechler 2012)."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -0.6931471805599453
    return torch.where(
        near,
        (-torch.expm1(torch.where(near, x, -1.0))).log(),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )
