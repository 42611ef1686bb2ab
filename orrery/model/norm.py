"""Layer normalisation and its root-mean-square form.

LayerNorm(x) = (x - mean x) / sqrt(var x + eps) * w + b     Ba et al. 2016, arXiv:1607.06450
RMSNorm(x)   = x / sqrt(mean x^2 + eps) * w                 Zhang & Sennrich 2019, arXiv:1910.07467
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.model.lowbit import ops

if TYPE_CHECKING:
    from orrery.model.config import DecoderConfig


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last axis, then scale; computed in fp32 whatever comes in.

    unit_offset: multiply by 1 + weight, the weight starting at zero (Gemma), instead of by weight starting at one.
    """

    def __init__(self, width: int, eps: float = 1e-5, *, unit_offset: bool = False) -> None:
        super().__init__()
        self.eps, self.unit_offset = eps, unit_offset
        self.native = False  # by our compiled kernel: set in models that are for inference only
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, 0.0 if self.unit_offset else 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if self.native:
            return ops.rms_norm(x, self.weight, self.eps, unit_offset=self.unit_offset)
        weight = 1.0 + self.weight if self.unit_offset else self.weight
        if x.device.type == "cpu" and x.dtype.itemsize >= 4 and not torch.compiler.is_compiling():
            return _FusedRMSNorm.apply(x, weight, self.eps)
        if (
            x.dtype != weight.dtype
        ):  # autocast: half-precision x, fp32 weight; torch would warn and take a slow path
            return F.rms_norm(x.to(weight.dtype), self.weight.shape, weight, self.eps).to(x.dtype)
        return F.rms_norm(x, self.weight.shape, weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}" + (", unit_offset" if self.unit_offset else "")


class _FusedRMSNorm(torch.autograd.Function):
    """RMSNorm for a CPU in eager mode, where torch's own is a dozen passes over memory; this takes a third of its time.

    The gradient is LayerNorm's with mean 0, whose kernel is fused, plus the term by which the two differ:
    LayerNorm also takes the mean of grad * weight out of every row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rstd = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        )
        ctx.save_for_backward(x, weight, rstd)
        return (x * rstd).mul_(weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor, None]:  # type: ignore[bad-override]
        x, weight, rstd = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        dx, dweight, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, weight.shape, torch.zeros_like(rstd), rstd, weight, None, [True, True, False]
        )
        return dx.add_((grad @ weight).unsqueeze_(-1).mul_(rstd), alpha=1 / x.shape[-1]), dweight, None


class GroupedRMSNorm(nn.Module):
    """RMSNorm that takes each of `groups` equal parts of the width by itself, with weights for the whole width (Mamba-2)."""

    def __init__(self, width: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        parts = x.unflatten(-1, (self.groups, -1))
        return F.rms_norm(parts, parts.shape[-1:], None, self.eps).flatten(-2) * self.weight.to(x.dtype)


LayerNorm = nn.LayerNorm
"""torch's own: one fused kernel on every device."""


def make_norm(cfg: DecoderConfig, width: int | None = None) -> nn.Module:
    """The norm `cfg` asks for, over `width` features (None: d_model)."""
    width = cfg.d_model if width is None else width
    if cfg.norm == "layernorm":
        return LayerNorm(width, cfg.norm_eps, elementwise_affine=cfg.norm_weight, bias=cfg.norm_bias)
    return RMSNorm(width, cfg.norm_eps, unit_offset=cfg.norm_unit_offset)


class HeadNorm(nn.Module):
    """LayerNorm without a shift over each head of (..., H, D), with weights (H, D): every head its own (Command R)."""

    def __init__(self, heads: int, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(heads, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., H, D) -> (..., H, D)."""
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * self.weight


def make_qk_norm(cfg: DecoderConfig, heads: int) -> nn.Module | None:
    """The norm of queries or keys, of which there are `heads`; it takes (T, H, D), or (T, H * D) with "width"."""
    if not cfg.qk_norm:
        return None
    if cfg.qk_norm == "each_head":
        return HeadNorm(heads, cfg.head_size, cfg.norm_eps)
    return make_norm(cfg, heads * cfg.head_size if cfg.qk_norm == "width" else cfg.head_size)
