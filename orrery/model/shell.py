"""A model as shapes alone: its parameters and buffers take no memory and no time to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def shell(build: Callable[[], Model]) -> Model:
    """What `build()` makes, on the meta device: every tensor has a shape and a type, none has numbers.

    What a module computes for itself while it is made (rotary frequencies) must name the CPU as its device.
    """
    with torch.device("meta"):
        return build()
