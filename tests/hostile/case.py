"""One case: how its files are made, how they are opened, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Opens = tuple[str, Path]


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    Attributes:
        build: makes the files in an empty folder and yields what to open, each as (name of an opener, path).
        refused: what the sentence of each refusal must say, a regular expression; None: all is to be accepted.
        accepted: for accepted ones, what the opener's answer must match.
        slow: takes more than a second to build.
    """

    id: str
    build: Callable[[Path], Iterator[Opens]]
    refused: str | None = None
    accepted: str = ""
    slow: bool = False
