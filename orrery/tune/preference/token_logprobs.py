"""Log-probabilities of given tokens from hidden states, through logits that exist a chunk at a time.

    l_i = log softmax(W h_i)[y_i],    dl_i / dh_i = W^T (onehot(y_i) - p_i)

The slope of each is known as soon as its logits are. Where the head does not learn (an adapter is trained), the forward pass keeps it and
the backward pass only scales it, so nothing is computed twice. Where it does learn, chunks that do not all fit into memory are computed
again.

N tokens, d model width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from orrery.model.decoder import Decoder
from orrery.train.loss import FROZEN_CHUNK, LinearHead
from orrery.train.objectives.apply import head_of

CHUNK_BYTES, KEPT_BYTES = 64 << 20, 256 << 20
"""Logits of a chunk; and of all chunks together, above which the backward pass computes them again."""


def token_logprobs(hidden: Tensor, model: Decoder, wanted: Tensor) -> Tensor:
    """(N,) float32 log-probabilities of the ids `wanted` (N,), from final states (N, d); differentiable where gradients are on."""
    row = 4 * model.cfg.vocab_size
    size, head = max(1, CHUNK_BYTES // row), head_of(model)
    if torch.is_grad_enabled() and isinstance(head, LinearHead) and _frozen(head):
        return _FrozenHead.apply(hidden, head, wanted, size)
    again = torch.is_grad_enabled() and row * len(hidden) > KEPT_BYTES

    def part(h: Tensor, y: Tensor) -> Tensor:
        z = model.head(h)
        return -F.cross_entropy(z.to(torch.promote_types(z.dtype, torch.float32)), y, reduction="none")

    parts = zip(hidden.split(size), wanted.split(size), strict=True)
    return torch.cat([checkpoint(part, h, y, use_reentrant=False) if again else part(h, y) for h, y in parts])


def _frozen(head: LinearHead) -> bool:
    """Whether nothing of the head learns, and it computes in its own precision."""
    learns = any(isinstance(x, Tensor) and x.requires_grad for x in (head.weight, head.bias))
    return not learns and not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")


class _FrozenHead(torch.autograd.Function):
    """Of a linear head without gradients."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: LinearHead, wanted: Tensor, size: int) -> Tensor:
        w = head.weight
        size = size if isinstance(w, Tensor) else max(size, FROZEN_CHUNK)
        slopes = torch.empty_like(hidden, dtype=torch.float32)
        found = hidden.new_empty(len(hidden), dtype=torch.float32)
        for part in (slice(i, i + size) for i in range(0, len(hidden), size)):
            rows, y = hidden[part].to(w.dtype), wanted[part, None]
            z = F.linear(rows, w) if isinstance(w, Tensor) else w.product(rows)
            z = (z if head.bias is None else z + head.bias).float() * head.scale
            if head.softcap is not None:
                z = head.softcap * torch.tanh(z / head.softcap)
            logp = z.log_softmax(1)
            found[part] = logp.gather(1, y).squeeze(1)
            slope = logp.exp_().neg_()
            slope.scatter_add_(1, y, torch.ones_like(slope[:, :1]))
            if head.softcap is not None:
                slope *= 1 - (z / head.softcap).square()
            slope = (slope * head.scale).to(w.dtype)
            slopes[part] = slope @ w if isinstance(w, Tensor) else w.back(slope)
        ctx.save_for_backward(slopes)
        ctx.dtype = hidden.dtype
        return found

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (slopes,) = ctx.saved_tensors
        return (slopes * grad[:, None]).to(ctx.dtype), None, None, None
