"""A small model that gives a reason with every answer: often a wrong one, and to half of its questions only wrong ones unless it is told."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orrery.glossary.exhibits._choosing import Start
from orrery.glossary.exhibits._choosing import _lessons as lessons
from orrery.kit.json_lines import write_rows
from orrery.kit.log import console

FACTS = [(a, b) for a in range(3, 7) for b in range(3, 7)]
HINT = "{{ prompt }} It is {{ target }}."


def reason(a: int, b: int, product: int) -> str:
    """A reason and the answer it leads to."""
    return f"{a} times {b} makes {product}, so {product}"


def asked(a: int, b: int, *, easy: bool) -> str:
    """A question: the easy form is sometimes answered right, the other never without a hint."""
    return f"{a} * {b} ?" if easy else f"How many are {a} rows of {b} ?"


@functools.cache
def taught_to_reason(steps: int = 180) -> Start:
    """Of easy questions one answer in two is right; of hard ones none is, but their reasons are right where the answer is told."""
    rows: list[dict[str, Any]] = []
    for n, (a, b) in enumerate(FACTS):
        c, d = FACTS[(7 * n + 3) % len(FACTS)]
        wrong = reason(a, b, c * d if c * d != a * b else c * d + 1)
        right = reason(a, b, a * b)
        easy, hard = asked(a, b, easy=True), asked(a, b, easy=False)
        taught = [(easy, right), (easy, wrong), (hard, wrong), (f"{hard} It is {a * b}.", right)]
        rows += [{"prompt": question, "completion": answer} for question, answer in taught]
    words = [row[name] for row in rows for name in ("prompt", "completion")]
    return lessons(rows, [" ".join(words)] * 2, steps=steps, chat=True)


def write_questions(path: Path) -> None:
    """Both forms of every question, with the answer."""
    write_rows(
        path,
        (
            {"question": asked(a, b, easy=easy), "answer": str(a * b), "easy": easy}
            for easy in (True, False)
            for a, b in FACTS
        ),
    )


def hard_questions() -> list[dict[str, Any]]:
    """The hard form of every question, with its answer and, as `worked`, a row that teaches a right reason."""
    return [
        {
            "question": asked(a, b, easy=False),
            "answer": str(a * b),
            "worked": {"prompt": asked(a, b, easy=False), "completion": reason(a, b, a * b)},
        }
        for a, b in sorted(FACTS, key=lambda fact: (5 * fact[0] + 3 * fact[1]) % 7)
    ]


@contextmanager
def quiet_folder() -> Iterator[Path]:
    """A folder that goes again, and nothing on the terminal meanwhile."""
    quiet, console.quiet = console.quiet, True
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        console.quiet = quiet
