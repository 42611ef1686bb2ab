"""Stop strings in a stream: what might be the beginning of one is held back until it is known not to be."""

from __future__ import annotations

from collections.abc import Sequence

from orrery.kit.errors import OrreryError


class StopStrings:
    """Push text as it comes; what comes back never holds a part of a stop string. `found` says that one was met.

    The text returned, joined, is the whole text cut before the stop string that ends first (of several that end there, the
    longest), however the text comes in pieces.

    Raises:
        OrreryError: an empty stop string, which would stop everything.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str) or not all(stops):
            raise OrreryError("stop takes a list of texts that are not empty, for example stop=['\\n\\n']")
        self.stops = tuple(stops)
        self.found = False
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is certain by now; nothing once a stop string was met."""
        if self.found:
            return ""
        held = self._held + text
        met = [(at + len(stop), at) for stop in self.stops if (at := held.find(stop)) >= 0]
        if met:
            self.found, self._held = True, ""
            return held[: min(met)[1]]
        keep = max((_overlap(held, stop) for stop in self.stops), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
