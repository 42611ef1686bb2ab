"""What remains of an earlier token after a later one: sums of log-decays, and the cutting of a sequence into chunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def decay_between(log_decay: Tensor) -> Tensor:
    """(..., Q) log-decays -> (..., Q, Q): entry [i, j] is exp(a_{j+1} + ... + a_i) for j <= i, and 0 above.

    Each sum is built up from its own terms (segment sums, Dao & Gu 2024, listing 1): a difference of two running totals would
    lose the digits of a small sum behind two large totals.
    """
    q = log_decay.shape[-1]
    below = torch.ones(q, q, dtype=torch.bool, device=log_decay.device).tril(-1)
    sums = log_decay[..., None].expand(*log_decay.shape, q).masked_fill(~below, 0.0).cumsum(-2)
    return sums.masked_fill(below.t(), -torch.inf).exp()


def into_chunks(x: Tensor, chunk: int) -> Tensor:
    """(T, ...) -> (chunks, chunk, ...), the last one filled up with zeros: tokens that add nothing and forget nothing."""
    padded = F.pad(x, (0, 0) * (x.ndim - 1) + (0, -len(x) % chunk))
    return padded.unflatten(0, (-1, chunk))
