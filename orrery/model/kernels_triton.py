"""RMSNorm as a kernel for GPUs, in Triton: a row is read once, normed on the chip and written once.

    y = x / sqrt(mean x^2 + eps) * w                                   Zhang & Sennrich 2019, arXiv:1910.07467

A norm has about one operation a byte, so its time is the passes it makes over memory (Tillet et al. 2019, Triton); unfused PyTorch
makes one for each of square, mean, scale and product. Triton comes with torch's builds for CUDA. Forward only: for inference.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError

WIDEST = 65_536
"""A row must fit one block of threads."""

if find_spec("triton") is not None:
    import triton  # type: ignore[missing-import]
    import triton.language as tl  # type: ignore[missing-import]

    @triton.jit
    def _rms_norm(x, weight, out, width, eps, offset, BLOCK: tl.constexpr):
        row = tl.program_id(0)
        at = tl.arange(0, BLOCK)
        inside = at < width
        values = tl.load(x + row * width + at, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) + offset
        normed = values * tl.rsqrt(tl.sum(values * values, axis=0) / width + eps) * scale
        tl.store(out + row * width + at, normed, mask=inside)

else:
    _rms_norm = None


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5, *, unit_offset: bool = False) -> Tensor:
    """(..., width) -> (..., width) in the type of x, sums in float32.

    Args:
        unit_offset: multiply by 1 + weight (Gemma).

    Raises:
        OrreryError: Triton is not installed, or rows are wider than 65,536.
    """
    if _rms_norm is None:
        raise OrreryError(
            "the Triton kernel needs the package 'triton', which comes with torch for CUDA; use model.norm.RMSNorm here"
        )
    width = x.shape[-1]
    if width > WIDEST:
        raise OrreryError(
            f"rows of {width:,} numbers are wider than the kernel's {WIDEST:,}; use model.norm.RMSNorm"
        )
    rows, out = x.reshape(-1, width).contiguous(), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = 1 << (width - 1).bit_length()
    _rms_norm[(len(rows),)](
        rows, weight.contiguous(), out, width, eps, 1.0 if unit_offset else 0.0, BLOCK=block,
        num_warps=max(1, min(16, block // 256)),
    )  # fmt: skip
    return out
