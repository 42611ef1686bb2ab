"""Log-probabilities as they are reported: the model's own, before penalties, temperature and filters.

n tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from orrery.serve.sampling.filters import largest


def top_logprobs(logprobs: Tensor, n: int) -> dict[int, float]:
    """The n likeliest ids of (V,), likeliest first, with their log-probabilities."""
    if not n:
        return {}
    ids = largest(logprobs, n)[:n]
    return dict(zip(ids.tolist(), logprobs[ids].tolist(), strict=True))


def read_logprobs(logits: Tensor, ids: Sequence[int], n: int, *, known: int) -> list[dict[int, float]]:
    """For each row of logits (n, V), the id that came next first and then the n likeliest of the first `known`, with their
    log-probabilities in nats."""
    rows = logits.float().log_softmax(-1)
    return [{id: float(row[id])} | top_logprobs(row[:known], n) for row, id in zip(rows, ids, strict=True)]
