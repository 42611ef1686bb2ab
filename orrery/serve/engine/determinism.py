"""What makes a request's bytes the same in any company, and what is given up for speed.

A library's matrix product sums a row in another order when other rows stand beside it, so logits differ in their last bits from batch
to batch, and now and then a token does. Our own kernel's rows do not notice each other (`model.lowbit`).
"""

from __future__ import annotations

from typing import Literal

import torch

from orrery.model.decoder import Decoder
from orrery.model.lowbit import backend, set_activation_bits
from orrery.model.quantised import use_native_kernels

Mode = Literal["deterministic", "fast", "library-kernels"]


def settle_kernels(model: Decoder, *, fast: bool) -> Mode:
    """Choose what computes the model, and say what that is worth.

    deterministic: our kernel computes everything it has operations for; the same request gives the same bytes. fast: quantised weights
    meet activations of 8 bits, which moves scores by a tenth of a per cent or two; plain weights stay with the library. library-kernels: there
    is no compiled kernel here, or the model is on another device or in another number format; tokens agree to rounding.
    """
    set_activation_bits(model, 8 if fast else 16)
    if fast:
        return "fast"
    if model.device.type != "cpu" or model.dtype != torch.float32 or backend() != "c++":
        return "library-kernels"
    use_native_kernels(model)
    return "deterministic"
