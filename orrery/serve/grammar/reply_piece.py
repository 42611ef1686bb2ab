"""A piece of an answer, and the search for marks in text that is still coming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Delta:
    """Content, reasoning, or a part of call number `call`: its name when it begins, then its arguments as JSON text in pieces."""

    content: str = ""
    reasoning: str = ""
    call: int | None = None
    name: str = ""
    arguments: str = ""


def first_of(text: str, marks: Sequence[str], start: int = 0) -> tuple[int, str]:
    """Where the first of the marks stands from `start` on, and which it is (the longest, where several begin there); (-1, "") where there is none."""
    found = [(at, -len(mark), mark) for mark in marks if (at := text.find(mark, start)) >= 0]
    at, _, mark = min(found, default=(-1, 0, ""))
    return at, mark


def overlap(text: str, marks: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins one of the marks."""
    longest = max(map(len, marks), default=1) - 1
    end = text[-longest:] if longest else ""
    return next((len(end) - at for at in range(len(end)) if any(m.startswith(end[at:]) for m in marks)), 0)
