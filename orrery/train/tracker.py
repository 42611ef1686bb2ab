"""Metrics to a local web view (trackio, the extra `track`), which may fail or be slow without the training noticing.

    trackio show --project orrery        # in another terminal

Records go through a bounded queue to a thread. A full queue drops records, an error stops the tracker; both are said once.
`metrics.jsonl` has everything in any case.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from orrery.kit.errors import MissingExtra

QUEUE, CLOSE_S = 1024, 10.0


class Backend(Protocol):
    """Where records go in the end."""

    def log(self, metrics: dict[str, Any], step: int) -> None: ...

    def finish(self) -> None: ...


class Tracker:
    """Hands records to a backend in the background.

    Args:
        make: opens the backend; called in the thread, so that even opening it may hang.
        say: is told once, in one sentence, if the tracker stops or drops records.
    """

    def __init__(self, make: Callable[[], Backend], *, say: Callable[[str], None]) -> None:
        self._make, self._say = make, say
        self._queue: queue.Queue[tuple[dict[str, Any], int] | None] = queue.Queue(QUEUE)
        self.dropped = 0
        self.error: str | None = None
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """Pass on the numbers among `metrics`; never blocks, never raises."""
        if self.error is not None:
            return
        numbers = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        try:
            self._queue.put_nowait((numbers, step))
        except queue.Full:
            if not self.dropped:
                self._say("the tracker is too slow and loses records; metrics.jsonl has them all")
            self.dropped += 1

    def close(self) -> None:
        """Wait for what is queued, but no longer than a few seconds."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)

    def _work(self) -> None:
        try:
            backend = self._make()
            while (record := self._queue.get()) is not None:
                backend.log(*record)
            backend.finish()
        except Exception as error:  # whatever a tracker raises, the training goes on
            self.error = f"{type(error).__name__}: {error}"
            self._say(
                f"the tracker stopped ({self.error}); training goes on and metrics.jsonl has everything"
            )


class Trackio:
    """The trackio backend. A resumed run continues under its name."""

    def __init__(self, *, project: str, name: str, config: dict[str, Any]) -> None:
        import trackio

        self._trackio = trackio
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # it greets on stdout, which belongs to the command's result
            self._run = trackio.init(
                project=project, name=name, config=config, resume="allow", embed=False,
                auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip

    def log(self, metrics: dict[str, Any], step: int) -> None:
        """One record."""
        self._run.log(metrics, step=step)

    def finish(self) -> None:
        """Write what is left."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


def trackio_tracker(
    *, project: str, name: str, config: dict[str, Any], say: Callable[[str], None]
) -> Tracker:
    """A tracker to trackio.

    Raises:
        MissingExtra: trackio is not installed.
    """
    if importlib.util.find_spec("trackio") is None:
        raise MissingExtra("trackio", "track")
    return Tracker(lambda: Trackio(project=project, name=name, config=config), say=say)
