"""Log-probabilities of chosen tokens and the entropy of each choice, with gradients, from logits that are never whole.

    H_t = -sum_v p_v log p_v,   p = softmax(z_t / temperature)

A chunk of tokens is turned into logits, two numbers a token are kept, and the logits are computed again in the backward
pass. The entropy is that of the distribution that is sampled from, so with the sampling temperature.

An entropy bonus (Williams & Peng 1991) is -coefficient * `aggregate`(H).sum; `adapted_coefficient` moves the
coefficient towards an entropy aimed at (He et al. 2025, arXiv:2505.22312). `forking_tokens` finds the tokens where a
response could have gone another way, which alone suffice to learn from (Wang et al. 2025, arXiv:2506.01939).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
"""Tokens whose logits are in memory together."""


class Scored(NamedTuple):
    """Of every token: its log-probability and the entropy of the distribution it was drawn from, both (T,), in nats."""

    logprobs: Tensor
    entropy: Tensor


def scored(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> Scored:
    """Log-probabilities of `targets` and entropies, differentiable in the hidden states and the head's weights.

    Args:
        hidden: (T, d) final hidden states; targets: (T,) int64.
        head: (n, d) -> (n, V) logits, as `Decoder.head`.
    """

    def part(h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z = head(h)
        logp = (z.to(torch.promote_types(z.dtype, torch.float32)) / temperature).log_softmax(-1)
        return logp.gather(1, y[:, None]).squeeze(1), entropy_of(logp)

    if len(hidden) <= chunk:
        return Scored(*part(hidden, targets))
    pieces = [
        checkpoint(part, h, y, use_reentrant=False)
        for h, y in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    logprobs, entropies = zip(*pieces, strict=True)
    return Scored(torch.cat(logprobs), torch.cat(entropies))


def entropy_of(logp: Tensor) -> Tensor:
    """Entropy of normalized log-probabilities over the last axis; one of -inf counts 0."""
    return -(logp.exp() * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1)


def forking_tokens(entropy: Tensor, share: float = 0.2) -> Tensor:
    """Which tokens have an entropy among the highest `share` of the batch, (T,) bool."""
    return entropy >= torch.quantile(entropy.float(), 1 - share)


def adapted_coefficient(
    coefficient: float, entropy: float, *, target: float, step: float = 0.005, most: float = 1.0
) -> float:
    """The coefficient of the entropy bonus one step up where the entropy is below `target`, one down where above, within
    [0, most]."""
    return min(max(coefficient + (step if entropy < target else -step), 0.0), most)
