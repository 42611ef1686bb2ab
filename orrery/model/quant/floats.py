"""Plain numbers: F32 (4 bytes, IEEE single), F16 (2 bytes, IEEE half), BF16 (2 bytes, the upper half of a single).

32, 16 and 16 bits per weight. A "block" here is one number. F16 and BF16 are rounded to nearest, ties to even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError


def decode_f32(blocks: Tensor, out: Tensor) -> None:
    """(N, 4) uint8 -> (N, 1)."""
    out.view(torch.uint8).copy_(blocks)


def decode_f16(blocks: Tensor, out: Tensor) -> None:
    """(N, 2) uint8 -> (N, 1)."""
    out.copy_(_aligned(blocks).view(torch.float16))


def decode_bf16(blocks: Tensor, out: Tensor) -> None:
    """(N, 2) uint8 -> (N, 1)."""
    out.copy_(_aligned(blocks).view(torch.bfloat16))


def encode_f32(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 1) -> (N, 4) uint8; the importance does not matter."""
    return x.contiguous().view(torch.uint8)


def encode_f16(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 1) -> (N, 2) uint8; raises OrreryError beyond 65504."""
    return _rounded(x, torch.float16, "F16")


def encode_bf16(x: Tensor, w: Tensor | None) -> Tensor:
    """(N, 1) -> (N, 2) uint8; raises OrreryError beyond 3.39e38."""
    return _rounded(x, torch.bfloat16, "BF16")


def _aligned(blocks: Tensor) -> Tensor:
    """A copy: a tensor in a file may begin at an odd byte, where memory cannot be read as numbers."""
    return blocks.clone(memory_format=torch.contiguous_format)


def _rounded(x: Tensor, dtype: torch.dtype, kind: str) -> Tensor:
    rounded = x.to(dtype)
    if not rounded.isfinite().all():
        raise OrreryError(
            f"{kind} reaches {torch.finfo(dtype).max:.6g}, but the tensor holds {x.abs().max().item():.6g}: store it as F32"
        )
    return rounded.contiguous().view(torch.uint8)
