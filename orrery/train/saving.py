"""When to save, and what to do when it fails: training goes on, the save is tried again, and only many failures end the run."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.files import sweep
from orrery.train.checkpoint import Checkpoint, Checkpoints
from orrery.train.config import CheckpointConfig
from orrery.train.records import Records
from orrery.train.state import TrainState

TRIES, WAIT_S = 5, 2.0


class Saver:
    """Writes the checkpoints of a run as its rule says. Only the first rank writes; the others' calls do nothing."""

    def __init__(self, folder: Path, rule: CheckpointConfig, *, writes: bool) -> None:
        self.checkpoints = Checkpoints(folder, keep_last=rule.keep_last, keep_best=rule.keep_best)
        self.rule, self.writes = rule, writes
        self.saved_step: int | None = None
        self.seconds = 0.0
        """How long the last save took."""
        self._saved_time, self._failures, self._not_before = time.monotonic(), 0, -math.inf

    def newest(self) -> Checkpoint | None:
        """The newest good checkpoint, after clearing away what a crash left."""
        sweep(self.checkpoints.folder)
        found = self.checkpoints.newest()
        self.checkpoints.prune()  # a crash may have come between a save and its pruning
        self.saved_step = found.state["step"] if found else None
        return found

    def due(self, state: TrainState) -> bool:
        """Whether the rule asks for a save now, or one that failed is to be tried again."""
        now, rule = time.monotonic(), self.rule
        by_steps = rule.every_steps is not None and state.step % rule.every_steps == 0
        by_time = rule.every_seconds is not None and now - self._saved_time >= rule.every_seconds
        is_best = rule.keep_best > 0 and state.best_step == state.step
        return now >= self._not_before and (by_steps or by_time or is_best or self._failures > 0)

    def save(
        self, state: TrainState, identity: dict[str, Any], records: Records, *, must: bool = False
    ) -> None:
        """Write a checkpoint of `state`. A failure is told and tried again, unless it `must` be or has failed too often.

        Raises:
            OrreryError: it cannot be written; the one before is intact.
        """
        if not self.writes or self.saved_step == state.step:
            return
        began = time.monotonic()
        records.make_durable()
        try:
            self.checkpoints.save(
                state.step, tensors=state.tensors(), state={**state.plain(), "identity": identity}
            )
        except OrreryError as error:
            self._failures += 1
            if must or self._failures >= TRIES:
                raise OrreryError(
                    f"no checkpoint could be saved after step {state.step:,}: {error} ({self.kept()})"
                ) from error
            self._not_before = time.monotonic() + WAIT_S * 2**self._failures
            say = f"{error}; training goes on and will try again"
            records.event(state.step - 1, "save failed", message=str(error), say=say)
            return
        self.saved_step, self._saved_time, self._failures = state.step, time.monotonic(), 0
        self.seconds = self._saved_time - began

    def kept(self) -> str:
        """What a person can go back to, in words."""
        return (
            "nothing was saved yet"
            if self.saved_step is None
            else f"the checkpoint after step {self.saved_step:,} is good"
        )
