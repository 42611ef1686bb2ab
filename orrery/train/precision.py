"""In which number format to multiply: float32 weights; bf16 or fp16 products where hardware makes them fast.

A processor with AVX512-BF16 or AMX takes a training step in bf16 in about 0.6 of the time of fp32.

bf16 keeps float32's range, so it needs no loss scaling. fp16 does: gradients under 6e-8 vanish, so the loss
is multiplied by a large S before backward and the gradients divided by S after it; S halves when they
overflow and doubles after `interval` good steps (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).

On a CPU without AVX-512 or AMX, torch's bf16 matmul is a plain loop (1024 x 1024: 10.5 s against 32 ms in
fp32, and backward through autocast fifteen times slower), so it is refused there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError

Choice = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """The format of matrix products on a device; weights, sums, softmax and norms stay in float32."""

    dtype: torch.dtype
    device: str

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for the forward pass; for float32 it does nothing."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(self.device, self.dtype)

    def scaler(self) -> LossScaler:
        """A loss scaler, which scales by 1 for all but fp16."""
        return LossScaler() if self.dtype == torch.float16 else LossScaler(scale=1.0, fixed=True)


def choose_precision(choice: Choice = "auto", device: torch.device | str = "cpu") -> Precision:
    """What to train in. "auto" is bf16 where the hardware has instructions for it, else fp32.

    Raises:
        OrreryError: the device would do it a hundred times slower than float32.
    """
    device = torch.device(device)
    fast = {"fp32": True, "bf16": bf16_is_fast(device), "fp16": fp16_is_fast(device)}
    if choice == "auto":
        choice = "bf16" if fast["bf16"] else "fp32"
    if not fast[choice]:
        where = "this CPU" if device.type == "cpu" else f"the device '{device}'"
        raise OrreryError(f"{where} multiplies {choice} in software, many times slower; use precision: fp32")
    return Precision(DTYPES[choice], device.type)


def bf16_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether bf16 matrix products run on instructions made for them."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def fp16_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether fp16 matrix products run on instructions made for them."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (7, 0)
    return device.type == "cpu" and torch.cpu._is_amx_fp16_supported()


class LossScaler:
    """Dynamic loss scaling; `state()` and `load()` are what a checkpoint keeps.

    scaler.scale(loss).backward()
    scaler.unscale(parameters)
    scaler.update(guarded_step(optimizer).applied)
    """

    def __init__(
        self, scale: float = 65536.0, *, growth: float = 2.0, interval: int = 2000, fixed: bool = False
    ) -> None:
        self.factor, self.growth, self.interval, self.fixed = scale, growth, interval, fixed
        self.good_steps = 0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss, times the factor."""
        return loss if self.factor == 1.0 else loss * self.factor

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the factor, in place."""
        if self.factor != 1.0:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], 1 / self.factor)

    def update(self, applied: bool) -> None:
        """Halve the factor after an overflow; double it after `interval` steps without one."""
        if self.fixed:
            return
        self.good_steps = self.good_steps + 1 if applied else 0
        if not applied:
            self.factor /= self.growth
        elif self.good_steps == self.interval:
            self.factor, self.good_steps = self.factor * self.growth, 0

    def state(self) -> dict[str, float]:
        """JSON-able."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load(self, state: dict[str, float]) -> None:
        """Restore what `state` gave."""
        self.factor, self.good_steps = float(state["factor"]), int(state["good_steps"])
