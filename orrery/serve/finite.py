"""Logits that are no numbers are an error, not a token."""

from __future__ import annotations

from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.lowbit.ops import all_finite


def check_finite(logits: Tensor, position: int) -> Tensor:
    """The logits (..., V) behind `position` tokens, as they are.

    Raises:
        OrreryError: the model's own numbers are not finite.
    """
    if not all_finite(logits):
        raise OrreryError(
            f"the model gives logits that are no numbers at position {position}; its weights are damaged or its training diverged"
        )
    return logits
