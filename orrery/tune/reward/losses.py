"""What a reward model learns from: which of two answers is better, whether an answer is right, whether a step is.

    pair      -log sigma(r+ - r- - m) + c (r+ + r-)^2       Bradley & Terry 1952; Christiano et al. 2017, arXiv:1706.03741
    margin    m: how much better, in nats                    Touvron et al. 2023, arXiv:2307.09288, section 3.2.2
    centred   c: holds the free sum of the scores at 0       Eisenstein et al. 2023, arXiv:2312.09244, section 3
    verdict   -y log sigma(r) - (1 - y) log sigma(-r)        of answers (Cobbe et al. 2021, arXiv:2110.14168) and of steps
    ranking   the mean of the pair losses of a ranked list   Burges et al. 2005; Ouyang et al. 2022, arXiv:2203.02155, eq. 1

P pairs, N scores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.train.loss import Loss


def pair_loss(chosen: Tensor, rejected: Tensor, *, margin: Tensor | float = 0.0, centre: float = 0.0) -> Loss:
    """The Bradley-Terry loss of pairs.

    Args:
        chosen, rejected: (P,) scores of the better and the worse answer.
        margin: (P,) or one number, by which the better one should lead.
        centre: the price of (chosen + rejected)^2: differences say nothing about where 0 is.

    Returns:
        The sum over pairs, weight P. Of `stats`, "nll" is without the price of centring, and "accuracy" and "margin" are sums too.
    """
    ahead = chosen - rejected
    nll = -F.logsigmoid(ahead - margin)
    right = (ahead > 0).to(nll.dtype) + 0.5 * (ahead == 0).to(nll.dtype)
    stats = {"nll": nll, "accuracy": right, "margin": ahead}
    total = nll.sum() + centre * (chosen + rejected).square().sum()
    return Loss(total, nll.new_tensor(float(len(nll))), {name: x.detach().sum() for name, x in stats.items()})


def verdict_loss(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Loss:
    """Binary cross-entropy of scores, the logits of being right.

    Args:
        scores: (N,). labels: (N,) in [0, 1]: right or wrong, or the share of rollouts that came out right.
        weights: (N,); None: all 1.

    Returns:
        The weighted sum, its weight, and in `stats` the weighted count of scores on the label's side of 0.
    """
    weights = torch.ones_like(scores) if weights is None else weights
    nll = F.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    right = ((scores > 0) == (labels > 0.5)).to(nll.dtype)
    stats = {"nll": weights @ nll.detach(), "accuracy": weights @ right}
    return Loss(weights @ nll, weights.sum(), stats)


def ranking_loss(scores: Tensor, grades: Tensor) -> Loss:
    """RankNet: the pair loss of every two items of which one is graded higher, over their number.

    Args:
        scores: (N,) of the items of one list. grades: (N,), higher is better; equal grades make no pair.

    Returns:
        The mean over the list's pairs with weight 1, so that a long list counts no more than a short one (Ouyang et al. 2022).
    """
    better, worse = (grades[:, None] > grades[None, :]).nonzero(as_tuple=True)
    found = pair_loss(scores[better], scores[worse])
    pairs = found.weight.clamp(min=1)
    return Loss(
        found.sum / pairs, (found.weight > 0).to(pairs.dtype), {k: v / pairs for k, v in found.stats.items()}
    )
