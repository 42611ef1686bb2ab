"""The small operations between the products of one token, each in one call.

At one token a torch operation is mostly the cost of calling it, and a norm or a rotation is six of them. These take two or
three microseconds instead of twenty, for inference on a CPU in float32; for anything else, or without the compiled kernel, the same is done by
torch. Equal to torch's within 1e-6 of the largest number; a row's result does not depend on the other rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.model.lowbit.choice import backend


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, unit_offset: bool = False) -> Tensor:
    """x / sqrt(mean x^2 + eps) * weight over the last axis (unit_offset: times 1 + weight). (..., width) -> (..., width).

    Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    if not _plain(x, weight):
        return F.rms_norm(x, weight.shape, 1.0 + weight if unit_offset else weight, eps)
    from orrery.model.lowbit.native import load

    x, weight, width = x.contiguous(), weight.contiguous(), x.shape[-1]
    out = torch.empty_like(x)
    load().orrery_rms_norm(
        x.data_ptr(), weight.data_ptr(), eps, 1.0 if unit_offset else 0.0,
        x.numel() // width, width, out.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return out


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + R/2) of the first R dimensions of every head: (T, H, D), (T, R/2) tables -> (T, H, D).

    Su et al. 2021, arXiv:2104.09864, in the half-split layout.
    """
    half = cos.shape[-1]
    if not _plain(x, cos, sin):
        a, b, rest = x.split((half, half, x.shape[-1] - 2 * half), -1)
        c, s = cos[:, None], sin[:, None]
        return torch.cat((a * c - b * s, b * c + a * s, rest), -1).to(x.dtype)
    from orrery.model.lowbit.native import load

    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    load().orrery_rope(
        x.data_ptr(), cos.data_ptr(), sin.data_ptr(), *x.shape, half, out.data_ptr(), torch.get_num_threads()
    )
    return out


def _plain(*tensors: Tensor) -> bool:
    """Float32 on the CPU with the compiled kernel at hand, and nobody wants a gradient."""
    for x in tensors:
        if x.dtype != torch.float32 or x.device.type != "cpu":
            return False
    return not torch.is_grad_enabled() and backend() == "c++"
