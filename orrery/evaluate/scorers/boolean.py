"""Yes or no: StrategyQA, BoolQ."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.final_answer import after_mark, boxed

_YES = frozenset({"yes", "true", "correct", "right"})
_NO = frozenset({"no", "false", "incorrect", "wrong"})
_WORD = re.compile(r"[a-z]+")


def yes_or_no(text: str) -> bool | None:
    """What an answer says: after `\\boxed{` or "the answer is", else its first word, else the last yes or no in it; None if neither."""
    text = text.strip().lower()
    for said in (boxed(text), after_mark(text)):
        if said and (word := _WORD.search(said)) and word[0] in _YES | _NO:
            return word[0] in _YES
    words = _WORD.findall(text)
    if words and words[0] in _YES | _NO:
        return words[0] in _YES
    said_words = [word for word in words if word in ("yes", "no", "true", "false")]
    return said_words[-1] in _YES if said_words else None


def boolean_key(answer: str, row: Mapping[str, Any]) -> bool | None:
    """Yes or no as votes count it."""
    return yes_or_no(answer)


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match of yes and no. Unscored where the answer says neither."""
    said, gold = yes_or_no(answer), yes_or_no(context.target)
    if gold is None:
        return Unscored("the gold answer is neither yes nor no")
    return Unscored("neither yes nor no") if said is None else {"exact_match": float(said == gold)}
