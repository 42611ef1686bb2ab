"""One matrix product per group of rows: out[r] = x[r] @ w[g] where row r lies in group g.

This is the inner loop of a mixture of experts. Groups are consecutive rows; `ends` (G,) holds where each one ends.

N rows, G groups, K -> M features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_matmul(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    """(N, K), (G, K, M), (G,) int32 -> (N, M). Empty groups are fine; rows after the last group come out zero."""
    if torch.compiler.is_compiling():  # group sizes are data: to a compiler this is one opaque operation
        return _grouped_op(x, w, ends)
    return _Grouped.apply(x, w, ends)


def _forward(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    if x.is_cuda and _aligned(x, w):
        out = F.grouped_mm(x, w, offs=ends)
        return out.masked_fill_((torch.arange(len(out), device=out.device) >= ends[-1])[:, None], 0)
    out, start = x.new_empty(x.shape[0], w.shape[2]), 0
    for weight, end in zip(w, ends.tolist(), strict=True):
        if end > start:
            torch.mm(x[start:end], weight, out=out[start:end])
        start = end
    out[start:] = 0
    return out


def _backward(x: Tensor, w: Tensor, ends: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and w; a group without rows gets a zero weight gradient."""
    grad_w, start = torch.zeros_like(w, memory_format=torch.contiguous_format), 0
    grad = grad.contiguous()
    for out, end in zip(grad_w, ends.tolist(), strict=True):
        if end > start:
            torch.mm(x[start:end].t(), grad[start:end], out=out)
        start = end
    return _forward(grad, w.transpose(1, 2), ends), grad_w


def _aligned(x: Tensor, w: Tensor) -> bool:
    """What torch's grouped kernel takes: half or single precision, rows that start on 16 bytes."""
    return x.dtype != torch.float64 and all(n * x.element_size() % 16 == 0 for n in w.shape[1:])


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(x, w, ends)
        return _forward(x, w, ends)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor, None]:  # type: ignore[bad-override]
        x, w, ends = ctx.saved_tensors
        return *_backward(x, w, ends, grad_outputs[0]), None


@torch.library.custom_op("orrery::grouped_matmul", mutates_args=())
def _grouped_op(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    return _forward(x, w, ends)


@_grouped_op.register_fake
def _(x: Tensor, w: Tensor, ends: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], w.shape[2])


@torch.library.custom_op("orrery::grouped_matmul_backward", mutates_args=())
def _grouped_backward_op(x: Tensor, w: Tensor, ends: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return _backward(x, w, ends, grad)


@_grouped_backward_op.register_fake
def _(x: Tensor, w: Tensor, ends: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), w.new_empty(w.shape)


_grouped_op.register_autograd(
    lambda ctx, grad: (*_grouped_backward_op(*ctx.saved_tensors, grad), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
