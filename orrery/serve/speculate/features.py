"""The model's states of a sequence, kept until a drafter's own layer has read them.

They may begin anywhere (a cached prefix has none): the layer then knows the sequence from there on only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orrery.model.cache import KVCache

SPARE = 256
"""Tokens of room that a new cache has beyond what it needs at once."""


class Features:
    """What a layer has of one sequence.

    Attributes:
        waiting: states (n, d) that it has not read for good.
        read: how many it has.
        cache: what it keeps of them; None before the first.
    """

    def __init__(self) -> None:
        self.waiting: list[Tensor] = []
        self.read = 0
        self.cache: KVCache | None = None

    def add(self, hidden: Tensor) -> None:
        """States of the next tokens that the model has read."""
        self.waiting.append(hidden.detach().clone())

    def states(self) -> Tensor:
        """(n, d) all that wait."""
        self.waiting = [torch.cat(self.waiting)]
        return self.waiting[0]

    def settle(self, n: int) -> None:
        """The first n that wait have been read for good."""
        self.waiting = [self.states()[n:]]
        self.read += n

    def __len__(self) -> int:
        return sum(len(part) for part in self.waiting)
