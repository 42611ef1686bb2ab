"""When a run has nowhere left to go: the gradient has vanished, or the loss no longer falls.

    stationary   ||g|| <= gradient
    flat         the mean loss of the last `window` steps is within `loss` (relative) of that of the window before

The first holds at minima, maxima and saddles alike; on noisy mini-batches it never holds, and the second is
the one to read.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Convergence:
    """Feed it every step; it answers once something has been reached."""

    gradient: float = 1e-6
    loss: float = 1e-4
    window: int = 50
    losses: deque[float] = field(default_factory=deque)

    def update(self, loss: float, grad_norm: float) -> Literal["stationary", "flat"] | None:
        """Take in one step."""
        self.losses.append(loss)
        if len(self.losses) > 2 * self.window:
            self.losses.popleft()
        if grad_norm <= self.gradient:
            return "stationary"
        if len(self.losses) < 2 * self.window:
            return None
        values = list(self.losses)
        before, now = sum(values[: self.window]) / self.window, sum(values[self.window :]) / self.window
        return "flat" if abs(before - now) <= self.loss * abs(before) else None
