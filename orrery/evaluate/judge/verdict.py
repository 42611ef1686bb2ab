"""What a judge said, read strictly: one verdict in double brackets, or none.

`[[A]]`, `[[B]]`, `[[C]]` (neither), or a grade such as `[[7]]`. A text with none, with several that differ, or with anything else in
double brackets has no verdict: it is unscored. A judge of our own can be held to the form by a grammar, so that only the end of its
context keeps it from a verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orrery.kit.lm import Grammar

BRACKETS = re.compile(r"\[\[([^\[\]]*)\]\]")
FIRST_WINS = {"A": 1.0, "B": 0.0, "C": 0.5}


def read_verdict(text: str) -> float | None:
    """1 where the answer shown first is better, 0 where the second is, 1/2 where neither; None where the text does not say."""
    said = set(BRACKETS.findall(text))
    return FIRST_WINS.get(said.pop()) if len(said) == 1 else None


def read_grade(text: str, low: float = 1, high: float = 10) -> float | None:
    """The grade, from `low` to `high`; None where the text does not say one."""
    said = set(BRACKETS.findall(text))
    return _number(said.pop(), low, high) if len(said) == 1 else None


def read_grades(text: str, criteria: Sequence[str], low: float, high: float) -> dict[str, float] | None:
    """A grade for each criterion, from lines such as `clear: [[4]]`; None where one is missing, twice with different grades, or odd."""
    made = {}
    for name in criteria:
        said = set(re.findall(rf"(?mi)^\W*{re.escape(name)}\W*:\W*?\[\[([^\[\]]*)\]\]", text))
        grade = _number(said.pop(), low, high) if len(said) == 1 else None
        if grade is None:
            return None
        made[name] = grade
    return made


def verdict_grammar(explain: int) -> Grammar:
    """At most `explain` characters of reasons, then a verdict."""
    return Grammar(kind="regex", source=rf"[^\[]{{0,{explain}}}\[\[(A|B|C)\]\]")


def grade_grammar(explain: int, low: int = 1, high: int = 10) -> Grammar:
    """Reasons, then a whole grade."""
    return Grammar(kind="regex", source=rf"[^\[]{{0,{explain}}}\[\[({_any(low, high)})\]\]")


def rubric_grammar(explain: int, criteria: Sequence[str], low: int, high: int) -> Grammar:
    """Reasons, then a line with a whole grade for each criterion."""
    lines = "".join(rf"\n{re.escape(name)}: \[\[({_any(low, high)})\]\]" for name in criteria)
    return Grammar(kind="regex", source=rf"[^\[]{{0,{explain}}}{lines}")


def _any(low: int, high: int) -> str:
    return "|".join(str(grade) for grade in range(high, low - 1, -1))


def _number(text: str, low: float, high: float) -> float | None:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not low <= float(text) <= high:
        return None
    return float(text)
