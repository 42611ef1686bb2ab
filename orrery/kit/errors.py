"""Errors a person reads: one sentence that says what is wrong, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OrreryError(ValueError):
    """A mistake the user can mend. The message is one sentence; the command line prints it without a traceback."""


class MissingExtra(OrreryError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the package '{package}', which is not installed; "
            f"run: pip install 'orrery-lm[{extra}]'"
        )


def suggest(word: str, options: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the option nearest to `word`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, [str(option) for option in options], n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""
