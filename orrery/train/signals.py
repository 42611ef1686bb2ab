"""Ctrl-C, and being told to go: finish the step, save, say how to go on. A second signal stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if name in signal.Signals.__members__
)
"""SIGUSR1 is how batch systems announce that time is nearly up."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal after `step` of `total` steps, and saved: the same command goes on from there."""

    def __init__(self, step: int, total: int) -> None:
        self.step, self.total = step, total
        super().__init__(
            f"stopped after step {step:,} of {total:,}, which is saved; the same command goes on from there"
        )


class StopRequest:
    """While it is entered, the first signal only sets `asked`; after that signals do what they did before."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._first) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
