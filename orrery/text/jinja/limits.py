"""What a template may cost: source, steps, time, text made, output. A hostile one ends in an error, not in a dead machine."""

from __future__ import annotations

import time
from dataclasses import dataclass

from orrery.kit.errors import OrreryError

CLOCK_EVERY = 2048


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one template and one rendering; those of a rendering grow with the characters put in."""

    source: int = 1 << 18
    """Characters of a template; the longest published ones have a tenth of it."""
    tokens: int = 40_000
    """Lexical tokens of a template."""
    nesting: int = 40
    """Brackets or blocks within each other."""
    depth: int = 160
    """Levels of the syntax tree."""
    steps: int = 300_000
    """Statements, loop turns, calls and filters; +40 for each character put in."""
    seconds: float = 0.7
    """Computing time (a template has nothing to wait for); +10 microseconds for each character put in."""
    made: int = 6 << 20
    """Characters of text made on the way, list items counted as eight; +256 for each character put in."""
    output: int = 1 << 16
    """Characters of the result; +8 for each character put in or of the template."""
    calls: int = 40
    """Macros within each other."""
    items: int = 100_000
    """Items of one list or range."""
    digits: int = 4096
    """Bits of a whole number; width and precision of formatted values."""


class Budget:
    """What is left of the limits in one rendering."""

    def __init__(self, limits: Limits, given: int) -> None:
        self.limits = limits
        self.steps = limits.steps + 40 * given
        self.made = limits.made + 256 * given
        self.clock = 0
        self.calls = 0
        self.deadline = time.thread_time() + limits.seconds + 1e-5 * given

    def tick(self, steps: int = 1) -> None:
        """Take steps.

        Raises:
            OrreryError: none are left, or the time is over.
        """
        self.steps -= steps
        if self.steps < 0:
            raise OrreryError(
                "the chat template takes too many steps: it is broken or hostile; do not use it"
            )
        self.clock -= steps
        if self.clock < 0:
            self.clock = CLOCK_EVERY
            if time.thread_time() > self.deadline:
                raise OrreryError("the chat template takes too long: it is broken or hostile; do not use it")

    def grow(self, chars: int) -> None:
        """Make room for text before it is made.

        Raises:
            OrreryError: more than the template may make.
        """
        self.made -= chars
        if self.made < 0:
            raise OrreryError("the chat template makes too much text: it is broken or hostile; do not use it")
        if chars > 256:
            self.tick(chars >> 8)

    def items(self, count: int) -> None:
        """Make room for a list.

        Raises:
            OrreryError: the list is too long.
        """
        if count > self.limits.items:
            raise OrreryError(
                f"the chat template makes a list of {count} items; {self.limits.items} are allowed"
            )
        self.grow(8 * count)

    def number(self, bits: int) -> None:
        """Make room for a whole number.

        Raises:
            OrreryError: the number has too many digits.
        """
        if bits > self.limits.digits:
            raise OrreryError("the chat template computes a number with too many digits; do not use it")
