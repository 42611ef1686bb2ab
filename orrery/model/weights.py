"""The stored tensors of a model folder as torch tensors: read whole, never mapped, of a type that weights can have.

A mapped file that another process cuts short ends this one; reading costs one pass over memory and is an error then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.kit.model_folder import Weights

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


def read_tensor(weights: Weights, name: str) -> Tensor:
    """A stored tensor, in memory of its own.

    Raises:
        OrreryError: it is of a type that no weights have, or its file has changed since it was opened.
    """
    entry = weights.tensors[name]
    if entry.dtype not in DTYPES:
        raise OrreryError(
            f"'{weights.files[name].path}': tensor '{name}' is of type {entry.dtype}, which weights cannot have here"
        )
    data = torch.from_numpy(weights.raw(name)) if entry.nbytes else torch.empty(0, dtype=torch.uint8)
    return data.view(DTYPES[entry.dtype]).reshape(entry.shape)


def not_finite(state: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of the tensors that hold NaN or an infinity."""
    return tuple(name for name, tensor in state.items() if not _finite(tensor))


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.is_meta:
        return True
    if tensor.itemsize == 1:
        tensor = tensor.float()
    # The sum of finite numbers is finite but for overflow, and takes no memory; where it is not, look at each.
    return bool(torch.isfinite(tensor.sum(dtype=torch.float32))) or bool(torch.isfinite(tensor).all())
