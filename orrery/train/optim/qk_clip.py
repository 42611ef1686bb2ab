"""MuonClip's QK-clip: shrink query and key weights of heads whose attention logits exceed a limit (Kimi K2).

    S_h = max_{i, j} scale * q_hi . k_hj       over the batch just seen, per head h
    g_h = min(1, tau / S_h);   after the update   W_q^h <- g_h^(1/2) W_q^h,   W_k^h <- g_h^(1/2) W_k^h

arXiv:2507.20534, section 2.1. Every head's logits change by its own g_h and by nothing else:
- Where query heads share a key head, the key takes g^(1/2), g the smallest factor of its group, and each query
  g_h / g^(1/2).
- In latent attention the rotary key is all heads' own, so the rotary part of the query takes the whole g_h.

    watch = WatchLogits(Packed(lengths))
    ...                                          # model(tokens, watch), backward, optimizer.step()
    qk_clip(watch.largest, tau=100.0)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.mla import MLA
from orrery.model.packed import Whole


class WatchLogits:
    """A context like the one it wraps that also keeps each attention layer's largest logit per head.

    It costs one more q k^T a layer, so use it on the steps that clip.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.causal = isinstance(inner, Whole) and inner.causal
        self.largest: dict[Any, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def attend(self, site: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The inner context's attention; q (T, H, D), k (T, K, D)."""
        with torch.no_grad():
            self.largest[site] = max_logits(q, k, self.inner.lengths, scale=site.scale, causal=self.causal)
        return self.inner.attend(site, q, k, v)


def max_logits(
    q: Tensor, k: Tensor, lengths: tuple[int, ...], *, scale: float, causal: bool = True
) -> Tensor:
    """Largest attention logit of each query head over documents laid end to end: (T, H, D), (T, K, D) -> (H,)."""
    shared = q.shape[1] // k.shape[1]
    largest = q.new_full((q.shape[1],), -torch.inf)
    for query, key in zip(q.split(lengths), k.split(lengths), strict=True):
        logits = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(shared, 1)) * scale
        if causal:
            future = torch.ones(len(query), len(query), dtype=torch.bool, device=q.device).triu(1)
            logits = logits.masked_fill_(future, -torch.inf)
        largest = torch.maximum(largest, logits.amax((1, 2)))
    return largest


@torch.no_grad()
def qk_clip(largest: dict[Any, Tensor], *, tau: float) -> int:
    """Clip every attention layer in `largest` (layer -> (H,) largest logits); returns how many heads were clipped.

    Raises:
        OrreryError: a layer norms its queries and keys, so that the size of their weights changes nothing.
    """
    clipped = 0
    for site, logits in largest.items():
        factors = torch.where(logits > tau, tau / logits, 1.0)  # (H,)
        clipped += int((factors < 1).sum())
        if isinstance(site, MLA):
            _scale_latent(site, factors)
        elif site.q_norm is not None:
            raise OrreryError("qk_clip and qk_norm both bound attention logits; set one of them to null")
        else:
            scale_heads(site.q_proj, site.k_proj, factors)
    return clipped


def scale_heads(q_proj: nn.Linear, k_proj: nn.Linear, factors: Tensor) -> None:
    """Multiply the logits of query head h by factors[h] (H,), by weights (and biases) of both projections."""
    head_dim = q_proj.out_features // len(factors)
    key = factors.view(k_proj.out_features // head_dim, -1).amin(1).sqrt()  # (K,)
    query = factors / key.repeat_interleave(len(factors) // len(key))
    for projection, factor in ((q_proj, query), (k_proj, key)):
        rows = factor.repeat_interleave(head_dim)
        projection.weight.mul_(rows[:, None])
        if projection.bias is not None:
            projection.bias.mul_(rows)


def _scale_latent(layer: MLA, factors: Tensor) -> None:
    queries = layer.q_proj if layer.cfg.q_lora_rank is None else layer.q_b_proj
    content = layer.cfg.qk_nope_head_dim
    q = queries.weight.unflatten(0, (layer.n_heads, -1))  # (H, N + R, .), a view
    k = layer.kv_b_proj.weight.unflatten(0, (layer.n_heads, -1))[
        :, :content
    ]  # (H, N, r); the rest are values
    factors = factors[:, None, None]
    q[:, :content] *= factors.sqrt()
    q[:, content:] *= factors
    k *= factors.sqrt()
