"""Early stopping: end a run whose validation loss has stopped falling (Prechelt 1998)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from orrery.kit.config import config


@config
class EarlyStop:
    """When to give up.

    Args:
        patience: evaluations without an improvement after which to stop.
        min_delta: what counts as an improvement: less than the best by more than this.
    """

    patience: Annotated[int, Field(ge=1)] = 5
    min_delta: Annotated[float, Field(ge=0)] = 0.0


@dataclass
class EarlyStopper:
    """Watches a number that should fall."""

    cfg: EarlyStop
    best: float = math.inf
    since_best: int = 0

    def update(self, value: float) -> bool:
        """Take in one evaluation; True if training should stop. NaN is no improvement."""
        if value < self.best - self.cfg.min_delta:
            self.best, self.since_best = value, 0
        else:
            self.since_best += 1
        return self.since_best >= self.cfg.patience

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps; `EarlyStopper(cfg, **state)` goes on from it."""
        return {"best": self.best, "since_best": self.since_best}
