"""A model as shapes alone: its parameters and buffers take no memory and no time to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Model = TypeVar("Model", bound=nn.Module)


def shell(build: Callable[[], Model]) -> Model:
    """What `build()` makes, on the meta device: every tensor has a shape and a type, none has numbers.

    What a module computes for itself while it is made (rotary frequencies) must name the CPU as its device.
    """
    with torch.device("meta"), _Undrawn():
        return build()


class _Undrawn(TorchFunctionMode):
    """Drawing does nothing: on the meta device it would give no numbers, yet import torch's compiler, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (nn.init.normal_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
