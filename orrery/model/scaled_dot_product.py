"""Scaled dot-product attention, softmax(q k^T scale + mask) v: by a fused kernel, and step by step.

The steps serve what kernels do not compute (soft-capping, sinks) and contexts that show the probabilities.
Legend: B sequences, H heads, K kv heads, Q queries, S keys, D head dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.model.context import Site
from orrery.model.lowbit import ops


def kernel_serves(site: Site, q: Tensor) -> bool:
    """Whether our compiled kernel (`model.lowbit.attention`) computes what `site` asks for: asked to, float32, no gradient, no
    bias or dropout."""
    return site.native and site.bias is None and site.dropout == 0 and ops.plain(q)


def fast_attention(
    site: Site, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool
) -> Tensor:
    """softmax(q k^T scale + mask) v by a fused kernel where one computes what `site` asks for.

    q (B, H, Q, D), k (B, K, S, D), v (B, K, S, Dv) -> (B, H, Q, Dv). Without a mask, `causal` decides (Q = S then).
    """
    if site.softcap is not None or site.sinks is not None:
        return weighted_values(attention_probabilities(site, q, k, mask, causal=causal), v, site.dropout)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None and q.shape[2] > 1,
        dropout_p=site.dropout, scale=site.scale, enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip


def attention_probabilities(site: Site, q: Tensor, k: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """The same maths step by step: (B, H, Q, D), (B, K, S, D) -> (B, H, Q, S); rows sum to 1, less what sinks take."""
    group = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(group, 1).transpose(-1, -2) * site.scale
    if site.softcap is not None:
        scores = site.softcap * torch.tanh(scores / site.softcap)
    if mask is None and causal and q.shape[2] > 1:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    dtype = torch.promote_types(scores.dtype, torch.float32)
    if site.sinks is None:
        return scores.softmax(-1, dtype=dtype).to(q.dtype)
    sinks = site.sinks.view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat((scores, sinks), -1).softmax(-1, dtype=dtype)[..., :-1].to(q.dtype)


def weighted_values(probabilities: Tensor, v: Tensor, dropout: float) -> Tensor:
    """(B, H, Q, S) and (B, K, S, Dv) -> (B, H, Q, Dv)."""
    group = probabilities.shape[1] // v.shape[1]
    return (F.dropout(probabilities, dropout) if dropout else probabilities) @ v.repeat_interleave(group, 1)
