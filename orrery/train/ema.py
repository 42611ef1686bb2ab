"""A moving average of the weights: often a better model than the last step's (Polyak & Juditsky 1992).

    s <- d s + (1 - d) w          over about 1 / (1 - d) steps

Without bias correction s starts as the first weights; with it s starts at 0 and is read as s / (1 - d^t),
which is a mean of the weights seen and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError


class EMA:
    """The average of a model's trainable weights, kept in float32.

    Call `update` after each applied step, never after a skipped one.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, *, bias_correction: bool = False) -> None:
        if not 0 <= decay < 1:
            raise OrreryError(f"the average's decay must be at least 0 and less than 1, not {decay}")
        self.decay, self.bias_correction, self.updates = decay, bias_correction, 0
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        make = torch.zeros_like if bias_correction else torch.clone
        self.shadow = {name: make(p.detach().float()) for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        self.updates += 1
        weights = [p.detach().float() for p in self.parameters.values()]
        torch._foreach_lerp_(list(self.shadow.values()), weights, 1 - self.decay)

    def average(self) -> dict[str, Tensor]:
        """The averaged weights by name."""
        if not self.bias_correction:
            return self.shadow
        if not self.updates:
            raise OrreryError("there is no average before the first update")
        return {name: s / (1 - self.decay**self.updates) for name, s in self.shadow.items()}

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Within the block the model has the averaged weights; after it every bit of its own."""
        own = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._put(self.average())
        try:
            yield
        finally:
            self._put(own)

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps besides `updates`: the running sums by name."""
        return self.shadow

    def load_state_tensors(self, tensors: dict[str, Tensor], updates: int) -> None:
        """Restore a saved average.

        Raises:
            OrreryError: it is of another model.
        """
        if tensors.keys() != self.shadow.keys():
            raise OrreryError(
                "the saved average is of a model with other weights; resume with the same recipe"
            )
        for name, value in tensors.items():
            self.shadow[name].copy_(value)
        self.updates = updates

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, p in self.parameters.items():
            p.copy_(weights[name])
