"""The small operations between the products, each in one call.

At one token a torch operation is mostly the cost of calling it, and a norm or a rotation is six of them. These take two or
three microseconds instead of twenty, for inference on a CPU in float32; for anything else, or without the compiled kernel, the same is done by
torch. Equal to torch's within 1e-6 of the largest number; a row's result does not depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from orrery.model.lowbit.choice import backend

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),  # So et al. 2021, arXiv:2109.08668
    "gelu": F.gelu,  # x * Phi(x) by erf; Hendrycks & Gimpel 2016, arXiv:1606.08415
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,  # x * sigmoid(x), "swish"
}
"""In the order of small.h."""


def rms_norm(x: Tensor, weight: Tensor, eps: float, *, unit_offset: bool = False) -> Tensor:
    """x / sqrt(mean x^2 + eps) * weight over the last axis (unit_offset: times 1 + weight). (..., width) -> (..., width).

    Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    if not plain(x, weight):
        scale = 1.0 + weight if unit_offset else weight
        # Half-precision x beside a float32 weight: torch would warn and take a slow path.
        wide = torch.promote_types(x.dtype, scale.dtype)
        return F.rms_norm(x.to(wide), weight.shape, scale.to(wide), eps).to(x.dtype)
    from orrery.model.lowbit.native import Operation, run

    x, weight, width = x.contiguous(), weight.contiguous(), x.shape[-1]
    out = torch.empty_like(x)
    run(
        Operation.RMS_NORM, x, weight, float(eps), 1.0 if unit_offset else 0.0, x.numel() // width, width, out
    )
    return out


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis. Ba et al. 2016, arXiv:1607.06450."""
    width = x.shape[-1]
    if not plain(x, *(t for t in (weight, bias) if t is not None)):
        return F.layer_norm(x, (width,), weight, bias, eps)
    from orrery.model.lowbit.native import Operation, run

    x = x.contiguous()
    out = torch.empty_like(x)
    run(Operation.LAYER_NORM, x, weight, bias, float(eps), x.numel() // width, width, out)
    return out


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b: (..., in), (out, in) -> (..., out)."""
    if not plain(x, weight):
        return F.linear(x, weight, bias)
    from orrery.model.lowbit.native import Operation, run

    x, weight, (n, k) = x.contiguous(), weight.contiguous(), weight.shape
    out = x.new_empty(*x.shape[:-1], n)
    run(Operation.LINEAR, x, weight, bias, x.numel() // k, n, k, out)
    return out


def embedding(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of a table: (...,) int64, (V, d) -> (..., d)."""
    from orrery.model.lowbit.native import Operation, recording, run

    if not plain(table) or not (
        recording() or ids.numel() == 0 or 0 <= int(ids.min()) <= int(ids.max()) < len(table)
    ):
        return F.embedding(ids, table)  # which has an error for an id outside
    ids, table = ids.contiguous(), table.contiguous()
    out = table.new_empty(*ids.shape, table.shape[1])
    run(Operation.GATHER, table, ids, ids.numel(), table.shape[1], out)
    return out


def rotary(positions: Tensor, frequencies: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position * frequency, times `factor`: (T,) int64 and (R/2,) float32 -> two of (T, R/2)."""
    if not plain(frequencies):
        angles = positions[:, None].float() * frequencies
        return angles.cos() * factor, angles.sin() * factor
    from orrery.model.lowbit.native import Operation, run

    shape = (positions.shape[0], frequencies.shape[0])
    cos, sin = frequencies.new_empty(shape), frequencies.new_empty(shape)
    run(Operation.ROTARY, positions.contiguous(), frequencies, float(factor), *shape, cos, sin)
    return cos, sin


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + R/2) of the first R dimensions of every head: (T, H, D), (T, R/2) tables -> (T, H, D).

    Su et al. 2021, arXiv:2104.09864, in the half-split layout.
    """
    half = cos.shape[-1]
    if not plain(x, cos, sin):
        a, b, rest = x.split((half, half, x.shape[-1] - 2 * half), -1)
        c, s = cos[:, None], sin[:, None]
        return torch.cat((a * c - b * s, b * c + a * s, rest), -1).to(x.dtype)
    from orrery.model.lowbit.native import Operation, run

    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    run(Operation.ROPE, x, cos, sin, *x.shape, half, out)
    return out


def add(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """x + scale * y, of one shape."""
    if not plain(x, y):
        return x + (y if scale == 1.0 else y * scale)
    from orrery.model.lowbit.native import Operation, run

    x, y = x.contiguous(), y.contiguous()
    out = torch.empty_like(x)
    run(Operation.ADD, x, y, float(scale), x.numel(), out)
    return out


def add_bias(x: Tensor, bias: Tensor) -> Tensor:
    """(..., width) + (width,)."""
    if not plain(x, bias):
        return x + bias.to(x.dtype)
    from orrery.model.lowbit.native import Operation, run

    x = x.contiguous()
    out = torch.empty_like(x)
    run(Operation.ADD_BIAS, x, bias, x.numel() // bias.numel(), bias.numel(), out)
    return out


def scaled(x: Tensor, scale: float) -> Tensor:
    """x * scale."""
    if not plain(x):
        return x * scale
    from orrery.model.lowbit.native import Operation, run

    x = x.contiguous()
    out = torch.empty_like(x)
    run(Operation.SCALED, x, float(scale), x.numel(), out)
    return out


def soft_capped(x: Tensor, cap: float) -> Tensor:
    """cap * tanh(x / cap)."""
    if not plain(x):
        return cap * torch.tanh(x / cap)
    from orrery.model.lowbit.native import Operation, run

    x = x.contiguous()
    out = torch.empty_like(x)
    run(Operation.SOFT_CAPPED, x, float(cap), x.numel(), out)
    return out


def gated(activation: str, gate: Tensor, up: Tensor | None = None) -> Tensor:
    """activation(gate) * up, or the activation alone. `activation` is one of `ACTIVATIONS`."""
    if not plain(gate):
        made = ACTIVATIONS[activation](gate)
        return made if up is None else made * up
    from orrery.model.lowbit.native import Operation, run

    gate, up = gate.contiguous(), None if up is None else up.contiguous()
    out = torch.empty_like(gate)
    run(Operation.GATED, list(ACTIVATIONS).index(activation), gate, up, gate.numel(), out)
    return out


def likeliest(logits: Tensor) -> int:
    """The first place of the largest of (V,) numbers."""
    if not plain(logits):
        return int(logits.argmax())
    from orrery.model.lowbit.native import Operation, run

    place = torch.empty(1, dtype=torch.int64)
    run(Operation.LIKELIEST, logits.contiguous(), logits.numel(), place)
    return int(place)


def all_finite(x: Tensor) -> bool:
    """Whether all numbers are finite."""
    if not plain(x):
        return bool(x.isfinite().all())
    from orrery.model.lowbit.native import Operation, run

    answer = torch.empty(1, dtype=torch.int64)
    run(Operation.FINITE, x.contiguous(), x.numel(), answer)
    return bool(answer)


def plain(*tensors: Tensor) -> bool:
    """Float32 on the CPU with the compiled kernel at hand, and nobody wants a gradient."""
    for x in tensors:
        if x.dtype != torch.float32 or x.device.type != "cpu":
            return False
    return not torch.is_grad_enabled() and backend() == "c++"
