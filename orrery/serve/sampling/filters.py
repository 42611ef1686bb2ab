"""Which tokens may be drawn, and how sharply: temperature and the filters, as pure functions on float32 logits.

Each takes logits (n,) and returns logits (n,) with -inf where a token is ruled out; the likeliest token always stays (but for
`xtc`, which is about leaving it out). Ties break by the smaller id everywhere. `candidates` applies them in this order:
temperature, top-k, top-p, min-p, typical, XTC, and each looks only at what the one before it left: after top-k 40 the rest of
the work is on 40 numbers, however large the vocabulary.

n, V tokens looked at, vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from orrery.kit.lm import Sampling

ROUNDING = 1e-6
"""Logits carry 24 bits: a mass this near to a threshold is at it."""
_ROW = 64


def candidates(logits: Tensor, sampling: Sampling, *, coin: float = 0.0) -> tuple[Tensor, Tensor]:
    """(ids rising (n,), their logits (n,)) of the tokens that the filters leave of (V,); temperature is not 0.

    Some logits may be -inf where they were before and no filter is on. `coin` in [0, 1): XTC acts where it is below its
    probability.
    """
    s = sampling
    logits = temperature(logits, s.temperature)
    ids: Tensor | None = None
    for keep in (
        lambda x: top_k(x, s.top_k),
        lambda x: top_p(x, s.top_p),
        lambda x: min_p(x, s.min_p),
        lambda x: typical(x, s.typical_p),
        lambda x: xtc(x, s.xtc_threshold) if coin < s.xtc_probability else x,
    ):
        kept = keep(logits)
        if kept is not logits:
            left = kept.isfinite().nonzero()[:, 0]
            ids, logits = left if ids is None else ids[left], kept[left]
    return torch.arange(len(logits)) if ids is None else ids, logits


def filtered(logits: Tensor, sampling: Sampling, *, coin: float = 0.0) -> Tensor:
    """Temperature and the filters: (V,) with -inf for what `candidates` leaves out."""
    ids, kept = candidates(logits, sampling, coin=coin)
    return torch.full_like(logits, -math.inf).index_copy(0, ids, kept)


def temperature(logits: Tensor, t: float) -> Tensor:
    """logits / t: below 1 sharpens, above 1 flattens."""
    return logits if t == 1 else logits / t


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k likeliest (Fan et al. 2018, arXiv:1805.04833); 0 keeps all."""
    if k == 0 or k >= len(logits):
        return logits
    return _only(logits, largest(logits, k))


def top_p(logits: Tensor, p: float) -> Tensor:
    """Nucleus: keep the smallest set of likeliest tokens whose mass is at least p (Holtzman et al. 2019,
    arXiv:1904.09751)."""
    return logits if p >= 1 else _keep_mass(logits, logits, p)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    if p <= 0:
        return logits
    return logits.masked_fill(logits < logits.max() + math.log(p), -math.inf)


def typical(logits: Tensor, p: float) -> Tensor:
    """Locally typical: of the tokens ordered by |surprise - entropy| keep the smallest prefix with mass at least p
    (Meister et al. 2022, arXiv:2202.00666)."""
    if p >= 1:
        return logits
    logprobs = logits.double().log_softmax(-1)
    entropy = torch.special.entr(logprobs.exp()).sum()
    return _keep_mass(logits, -(logprobs + entropy).abs(), p)


def xtc(logits: Tensor, threshold: float) -> Tensor:
    """Exclude top choices: of two or more tokens with at least the probability `threshold` keep the least likely (of equals
    the largest id), so that something else than the obvious is said, but never something unlikely (P. E. Weidmann 2024)."""
    probabilities = logits.double().softmax(-1)
    viable = ((probabilities >= threshold - ROUNDING) & (probabilities > 0)).nonzero()[:, 0]
    if len(viable) < 2:
        return logits
    order = logits[viable].sort(descending=True, stable=True).indices
    return logits.index_fill(0, viable[order[:-1]], -math.inf)


def largest(values: Tensor, k: int) -> Tensor:
    """Ids of the k largest, falling, of equals the smaller id first: `values.sort(descending=True, stable=True).indices[:k]`.

    The k-th largest of the maxima of short rows is a lower bound of the k-th largest value; what reaches it is little, and
    only that is sorted.
    """
    n = len(values)
    rows = values[: n - n % _ROW].unflatten(0, (-1, _ROW)).amax(-1) if n >= _ROW else values[:0]
    if k <= len(rows):
        bound = rows.topk(k).values[-1]
    elif k < n:
        bound = values.topk(k).values[-1]
    else:
        return values.sort(descending=True, stable=True).indices
    ids = (values >= bound).nonzero()[:, 0]
    return ids[values[ids].sort(descending=True, stable=True).indices[:k]]


def _keep_mass(logits: Tensor, key: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens, taken by falling `key`, whose probability is at least p; always the first.

    They are mostly few, so only the first 256 are sorted; where these do not reach p, eight times as many.
    """
    probabilities = logits.double().softmax(-1)
    n = 256
    while True:
        order = largest(key, n)
        mass = probabilities[order].cumsum(-1)
        if len(order) == len(logits) or mass[-1] >= p - ROUNDING:
            needed = 1 + int((mass[:-1] < p - ROUNDING).sum())
            return _only(logits, order[:needed])
        n *= 8


def _only(logits: Tensor, ids: Tensor) -> Tensor:
    """-inf everywhere but at `ids`."""
    return torch.full_like(logits, -math.inf).index_copy(0, ids, logits[ids])
