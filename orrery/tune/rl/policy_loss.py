"""The policy losses by name: which ratio, which clip, whose weight.

    reinforce   -A log pi                                   sequence-sum     Williams 1992
    ppo         clipped surrogate, token ratio              token            Schulman et al. 2017, arXiv:1707.06347
    grpo        the same                                    sequence-mean    Shao et al. 2024, arXiv:2402.03300
    dr-grpo     the same                                    fixed-length     Liu et al. 2025, arXiv:2503.20783
    dapo        the same, high 0.28                         token            Yu et al. 2025, arXiv:2503.14476
    gspo        the same, sequence ratio, 3e-4 and 4e-4     sequence-mean    Zheng et al. 2025, arXiv:2507.18071
    cispo       -stop(clip(rho)) A log pi                   token            MiniMax 2025, arXiv:2506.13585, eq. 4

CISPO clips the weight and not the token: every token keeps a gradient, a rare one too. They differ in nothing else;
the advantages come from `advantage` or `gae`, KL and entropy terms are added with the same `aggregate`.

Legend: T response tokens, `owner` their response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from orrery.train.loss import Loss
from orrery.tune.rl.aggregate import Aggregation, aggregate
from orrery.tune.rl.clipped_surrogate import Clipped, clipped, clipped_surrogate
from orrery.tune.rl.ratio import sequence_ratio, token_ratio

Kind = Literal["reinforce", "ppo", "grpo", "dr-grpo", "dapo", "gspo", "cispo"]
PolicyLoss = Loss


@dataclass(frozen=True)
class Published:
    """What a paper uses where the caller says nothing."""

    aggregation: Aggregation
    clip_low: float = 0.2
    clip_high: float = 0.2


PUBLISHED: dict[Kind, Published] = {
    "reinforce": Published("sequence-sum"),
    "ppo": Published("token"),
    "grpo": Published("sequence-mean"),
    "dr-grpo": Published("fixed-length"),
    "dapo": Published("token", 0.2, 0.28),
    "gspo": Published("sequence-mean", 3e-4, 4e-4),
    "cispo": Published("token", 1.0, 4.0),  # weights from 0 to 5
}


def policy_loss(
    kind: Kind,
    log_ratio: Tensor,
    logprobs: Tensor,
    advantages: Tensor,
    owner: Tensor,
    *,
    clip_low: float | None = None,
    clip_high: float | None = None,
    dual_clip: float | None = None,
    aggregation: Aggregation | None = None,
    max_length: int | None = None,
    weights: Tensor | None = None,
) -> PolicyLoss:
    """The loss of sampled tokens; what is left out is as published.

    Args:
        log_ratio: (T,) `logprobs` minus the log-probabilities when the token was sampled, with gradient; not used by
            "reinforce", except for the statistics.
        logprobs: (T,) log-probabilities now, with gradient; only "reinforce" and "cispo" use them.
        advantages: (T,) constants.
        clip_low: the ratio is clipped at 1 - clip_low
        clip_high: and at 1 + clip_high.
        dual_clip: bound c of the ratio where the advantage is negative (clipped surrogates only).
        max_length: the constant of "fixed-length", in tokens.
        weights: (T,) importance weights against another sampler, constants; a token of weight 0 has no effect,
            whatever its log-probability is, but counts in the divisor.

    Returns:
        `stats` are sums over tokens, so that micro-batches add: "tokens", "responses", "ratio", "ratio_squared", "kl_old"
        (k3 estimate of the KL from the sampling policy), "clipped_low", "clipped_high", "clipped_dual".
    """
    published = PUBLISHED[kind]
    clips = {
        "clip_low": published.clip_low if clip_low is None else clip_low,
        "clip_high": published.clip_high if clip_high is None else clip_high,
        "dual_clip": dual_clip,
    }
    if weights is not None:
        dead = weights == 0
        log_ratio, logprobs = log_ratio.masked_fill(dead, 0.0), logprobs.masked_fill(dead, 0.0)
    ratio = sequence_ratio(log_ratio, owner) if kind == "gspo" else token_ratio(log_ratio)
    match kind:
        case "reinforce":
            losses = -advantages * logprobs
        case "cispo":
            weight = ratio.detach().clamp(1 - clips["clip_low"], 1 + clips["clip_high"])
            losses = -weight * advantages * logprobs
        case _:
            losses = clipped_surrogate(ratio, advantages, **clips)
    losses = losses if weights is None else losses * weights
    loss = aggregate(losses, owner, aggregation or published.aggregation, max_length=max_length)
    nowhere = torch.zeros_like(advantages, dtype=torch.bool)
    where = (
        Clipped(nowhere, nowhere, nowhere)
        if kind == "reinforce"
        else clipped(ratio.detach(), advantages, **clips)
    )
    return Loss(loss.sum, loss.weight, _sums(log_ratio.detach(), ratio.detach(), where, owner))


def _sums(log_ratio: Tensor, ratio: Tensor, where: Clipped, owner: Tensor) -> dict[str, Tensor]:
    count = {f"clipped_{name}": flags.sum() for name, flags in where._asdict().items()}
    return {
        "tokens": torch.tensor(len(owner)),
        "responses": torch.tensor(len(owner.unique_consecutive())),
        "ratio": ratio.sum(),
        "ratio_squared": ratio.square().sum(),
        "kl_old": (token_ratio(log_ratio) - 1 - log_ratio).sum(),
        **count,
    }
