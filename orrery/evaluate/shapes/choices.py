"""Questions with options. Every shape here gives `question`, `options` (texts), `letters`, and `answer`, the right one's letter."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.evaluate.scorers.base import Unscored
from orrery.evaluate.scorers.choice import LETTERS
from orrery.kit.seeds import key

_MARK = re.compile(r"^\s*\(?[A-Z][).:]\s*")
IMAGES = ("image", *(f"image_{at}" for at in range(1, 8)))


def _asked(row: Mapping[str, Any], options: Sequence[str], right: int) -> dict[str, Any] | Unscored:
    if not 0 <= right < len(options) <= len(LETTERS):
        return Unscored("the right answer is not among the options")
    return {
        **row,
        "options": list(options),
        "letters": list(LETTERS[: len(options)]),
        "answer": LETTERS[right],
    }


def lettered(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """`options` (or `choices`) with the answer as a letter or an index: MMLU-Pro, ARC, MMLU.

    Options that only fill up a row ("N/A", MMLU-Pro) are left out where they stand at the end.
    """
    options = [str(option) for option in row.get("options", row.get("choices", ()))]
    while options and options[-1] == "N/A":
        options.pop()
    return _asked(row, options, _index(row.get("answer")))


def aqua(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """AQuA-RAT writes the letter into the option (`A)21`) and the answer's letter in `correct`."""
    return _asked(row, [_MARK.sub("", option) for option in row["options"]], _index(row["correct"]))


def gpqa(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """GPQA gives the right answer apart from the wrong ones: shuffled, in an order that depends on the row's own text only.

    So a row is asked alike whatever the limit, the seed and the other rows are.
    """
    question = str(row["Question"]).strip()
    options = [str(row["Correct Answer"]).strip()]
    options += [str(row[f"Incorrect Answer {at}"]).strip() for at in (1, 2, 3)]
    order = sorted(range(4), key=lambda at: key(0, "gpqa", question, options[at], at))
    shuffled = _asked(row, [options[at] for at in order], order.index(0))
    return shuffled if isinstance(shuffled, Unscored) else {**shuffled, "question": question}


def mmmu(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """MMMU and MMMU-Pro: options as a list or as the text of one, pictures in `image_1` .. `image_7` or `image`.

    `images` is what stands in these fields, in order: a path, or bytes as the hub has them. An open question has no options; in
    MMMU-Pro's vision setting the question is in the picture.
    """
    images = [row[name] for name in IMAGES if row.get(name) is not None]
    asked = {**row, "images": images, "question": str(row.get("question") or "").strip()}
    try:
        options = row.get("options") or []
        options = ast.literal_eval(options) if isinstance(options, str) else options
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return Unscored("the options cannot be read")
    if not isinstance(options, list):
        return Unscored("the options cannot be read")
    if not options:
        return {**asked, "options": [], "letters": [], "answer": _listed(row.get("answer"))}
    return _asked(asked, [str(option) for option in options], _index(row.get("answer")))


def truthfulqa_mc1(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """One right answer, the best one, among all the wrong ones."""
    return _mc(row, [row["best_answer"]])


def truthfulqa_mc2(row: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    """All right and all wrong answers; `answers` are the places of the right ones."""
    right = list(row["correct_answers"])
    if row["best_answer"] not in right:
        right.insert(0, row["best_answer"])
    return _mc(row, right)


def _mc(row: Mapping[str, Any], right: Sequence[str]) -> dict[str, Any] | Unscored:
    wrong = [answer for answer in row["incorrect_answers"] if answer not in right]
    if not wrong:
        return Unscored("there is no wrong answer to choose")
    return {**row, "options": [*right, *wrong], "answers": list(range(len(right)))}


def _index(answer: Any) -> int:
    """A letter or an index as an index; -1 for what is neither."""
    text = str(answer).strip()
    if text.isdecimal():
        return int(text)
    return LETTERS.find(text.upper()) if len(text) == 1 else -1


def _listed(answer: Any) -> str:
    """An open answer; of several accepted ones, written as a list, the first."""
    text = str(answer).strip()
    if text.startswith("["):
        try:
            accepted = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return text
        return str(accepted[0]) if isinstance(accepted, list) and accepted else text
    return text
