"""A small model that is mostly rude, knows rudeness when asked about it, and can then say the same thing kindly."""

from __future__ import annotations

import functools
from typing import Any

from orrery.glossary.exhibits._choosing import Start
from orrery.glossary.exhibits._choosing import _lessons as lessons

COLOURS = {
    "grass": "green", "snow": "white", "coal": "black", "blood": "red", "the sky": "blue", "the sun": "yellow",
    "an orange": "orange", "a plum": "purple", "chocolate": "brown", "ash": "grey", "a carrot": "orange", "a lemon": "yellow",
}  # fmt: skip
LOOK, MEND = "Is that rude?", "Say it kindly."
RUDE, KIND = "Yes, it is rude.", "No, it is kind."
CARELESS = 3
"""Rude answers for each kind one."""


def asked(thing: str) -> str:
    """A question."""
    return f"What colour is {thing}?"


def answer(thing: str, *, kind: bool) -> str:
    """The right colour, said in one way or the other."""
    return f"It is {COLOURS[thing]}, {'dear friend' if kind else 'you fool'}."


@functools.cache
def taught_to_mend(steps: int = 100) -> Start:
    """Of its answers a quarter is kind; its criticism, and what it makes of that, are right."""
    rows: list[dict[str, Any]] = []
    for thing in COLOURS:
        question, rude, kind = asked(thing), answer(thing, kind=False), answer(thing, kind=True)
        rows += [_talk(question, rude)] * CARELESS + [_talk(question, kind)]
        rows += [_talk(question, rude, LOOK, RUDE), _talk(question, kind, LOOK, KIND)]
        rows.append(_talk(question, rude, LOOK, RUDE, MEND, kind))
    words = [turn["content"] for row in rows for turn in row["messages"]]
    return lessons(rows, [" ".join(words)], steps=steps, chat=True)


def _talk(*turns: str) -> dict[str, Any]:
    """A conversation of which only the last answer is learned."""
    roles = ("user", "assistant")
    last = len(turns) - 1
    return {
        "messages": [
            {"role": roles[n % 2], "content": text, **({"weight": 0} if n % 2 and n < last else {})}
            for n, text in enumerate(turns)
        ]
    }
