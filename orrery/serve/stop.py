"""Stop strings in a stream: what might be the beginning of one is held back until it is known not to be."""

from __future__ import annotations

from collections.abc import Sequence

from orrery.kit.errors import OrreryError


class StopStrings:
    """Push text as it comes; what comes back never holds a part of a stop string. `found` says that one was met.

    The text returned, joined, is the whole text cut at the first place where a stop string stands.

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
        """The text that is certain by now."""
        held = self._held + text
        places = [place for stop in self.stops if (place := held.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return held[: min(places)]
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
