"""BIG-Bench Hard: what stands behind "the answer is" (Suzgun et al. 2022, arXiv:2210.09261)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.choice import choice_letter
from orrery.evaluate.scorers.final_answer import MAX_CHARACTERS

_MARK = re.compile(r"the\s+(?:final\s+|correct\s+)?answer\s+is:?", re.I)


def bbh_answer(text: str) -> str | None:
    """What follows the last "the answer is" on its line, without a full stop, quotes or bold marks; None if it is not said."""
    _, *said = _MARK.split(text[-MAX_CHARACTERS:])
    for part in reversed(said):
        line = part.strip().split("\n", 1)[0]
        line = line.strip().strip("*\"'`").strip()
        line = line[:-1].strip() if line.endswith(".") else line
        if line:
            return line.strip("*\"'`").strip()
    return None


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match with the target: the same letter for options, else the same text in any case and spacing.

    An answer on one short line counts as it is; a longer one that never says "the answer is" is Unscored.
    """
    gold = bbh_answer(context.target) or context.target.strip()
    said = bbh_answer(answer)
    if said is None:
        text = answer.strip()
        if not text or "\n" in text or len(text) > max(80, len(gold) + 20):
            return Unscored("'the answer is' is not said")
        said = text.rstrip(".")
    if re.fullmatch(r"\([A-Z]\)", gold):
        letter = choice_letter(said)
        return Unscored("no option chosen") if letter is None else {"exact_match": float(letter == gold[1])}
    return {"exact_match": float(_plain(said) == _plain(gold))}


def bbh_key(answer: str, row: Mapping[str, Any]) -> str | None:
    """The answer as votes count it."""
    said = bbh_answer(answer)
    return None if said is None else _plain(said)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
