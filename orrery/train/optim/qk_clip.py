"""MuonClip's QK-clip: keep attention logits bounded by shrinking the query and key weights of the heads that
exceed a limit.

    S_h = max_{i, j} scale * q_hi . k_hj       over the batch just seen, per head h
    g_h = min(1, tau / S_h);   after the update   W_q^h <- g_h^(1/2) W_q^h,   W_k^h <- g_h^(1/2) W_k^h

(Kimi K2, arXiv:2507.20534, section 2.1.) Where several query heads share a key head, the key takes the
smallest factor g of its group by the square root and each query g_h / g^(1/2), so every head's logits change
by its own g_h and by nothing else.

    watch = WatchLogits(Packed(lengths)); hidden = model(tokens, watch); ...; optimizer.step();
    qk_clip(watch.largest, tau=100.0)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class WatchLogits:
    """A context like the one it wraps that also keeps each attention layer's largest logit per head.

    It costs one more q k^T a layer, so use it on the steps that clip.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.largest: dict[Any, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def attend(self, site: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The inner context's attention; q (T, H, D), k (T, K, D)."""
        with torch.no_grad():
            self.largest[site] = max_logits(q, k, self.inner.lengths, scale=site.scale)
        return self.inner.attend(site, q, k, v)


def max_logits(q: Tensor, k: Tensor, lengths: tuple[int, ...], *, scale: float) -> Tensor:
    """Largest causal attention logit of each query head over documents laid end to end: (T, H, D), (T, K, D)
    -> (H,).
    """
    shared = q.shape[1] // k.shape[1]
    largest = q.new_full((q.shape[1],), -torch.inf)
    for query, key in zip(q.split(lengths), k.split(lengths), strict=True):
        logits = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(shared, 1)) * scale
        future = torch.ones(len(query), len(query), dtype=torch.bool, device=q.device).triu(1)
        largest = torch.maximum(largest, logits.masked_fill_(future, -torch.inf).amax((1, 2)))
    return largest


@torch.no_grad()
def qk_clip(largest: dict[Any, Tensor], *, tau: float) -> int:
    """Shrink q_proj and k_proj of every attention layer in `largest` (layer -> (H,) largest logits); returns
    heads clipped.
    """
    clipped = 0
    for site, logits in largest.items():
        factors = (tau / logits).clamp(max=1.0).where(logits > tau, 1.0)  # (H,)
        clipped += int((factors < 1).sum())
        scale_heads(site.q_proj, site.k_proj, factors)
    return clipped


def scale_heads(q_proj: torch.nn.Linear, k_proj: torch.nn.Linear, factors: Tensor) -> None:
    """Multiply the logits of query head h by factors[h] by scaling weights (and biases) of both projections
    in place.
    """
    heads = len(factors)
    head_dim = q_proj.out_features // heads
    kv_heads = k_proj.out_features // head_dim
    key = factors.view(kv_heads, -1).amin(1).sqrt()  # (K,)
    query = factors / key.repeat_interleave(heads // kv_heads)
    for projection, factor in ((q_proj, query), (k_proj, key)):
        rows = factor.repeat_interleave(head_dim)
        projection.weight.mul_(rows[:, None])
        if projection.bias is not None:
            projection.bias.mul_(rows)
