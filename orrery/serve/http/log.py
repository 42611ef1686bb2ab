"""The server's log: lines on standard error. A line that cannot be written (a full disk) is counted and dropped; serving goes on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


class Lines(logging.StreamHandler):
    """Writes lines to standard error. `dropped` is called for each that could not be written."""

    def __init__(self, dropped: Callable[[], None]) -> None:
        super().__init__(sys.stderr)
        self._dropped = dropped
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:
        self._dropped()
