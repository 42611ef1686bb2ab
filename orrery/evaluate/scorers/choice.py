"""Which of several lettered options an answer chooses: AQuA, MMLU-Pro, GPQA, MMMU, ARC."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.exact import normalise
from orrery.evaluate.scorers.final_answer import MAX_CHARACTERS, after_hashes, after_mark, boxed

HEAD = 200
"""Characters in which a letter and what dresses it are looked for."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DRESS = r"(?:\\(?:text|textbf|mathrm|mathbf)\s*)?[\s(\[{*$`'\"“]*"


def choice_letter(text: str, options: int = len(LETTERS), *, texts: Sequence[str] = ()) -> str | None:
    """The letter an answer settles on, from A to the number of `options`, or None.

    Looked for in this order: `\\boxed{B}` or `#### B`; after the last "the answer is"; an answer that is or begins with a letter
    and a closing mark (`B`, `(B)`, `B.`, `B) 12`, `option B`); the last letter in brackets, `(B)`, provided no other is in brackets;
    the text of exactly one option (`texts`). A bare "A" or "I" inside a sentence is a word, not a choice.
    """
    text = text[-MAX_CHARACTERS:].strip()
    last = LETTERS[options - 1]
    head = re.compile(rf"{_DRESS}(?:(?:option|choice)\s*{_DRESS})?([A-{last}])(?![A-Za-z0-9'’])", 0)
    loose = re.compile(
        rf"{_DRESS}(?:(?:option|choice)\s*{_DRESS})?([A-{last}a-{last.lower()}])\s*[)\]}}*.$`]*\s*\Z", re.I
    )
    for said in (boxed(text), after_hashes(text), after_mark(text)):
        said = said and said[:HEAD]
        if said and (match := loose.match(said) or head.match(said)) and not _article(said, match):
            return match[1].upper()
    if len(text) <= HEAD and (match := loose.match(text)):
        return match[1].upper()
    first = re.match(
        rf"{_DRESS}(?:(?:option|choice)\s*)?{_DRESS}([A-{last}])\s*(?:[)\]:.,]|\*\*|\n|\Z)", text[:HEAD], re.I
    )
    if first and (first[1].isupper() or first[0].strip().endswith(")")):
        return first[1].upper()
    bracketed = re.findall(rf"\(([A-{last}])\)", text)
    if bracketed and len(set(bracketed)) == 1:
        return bracketed[-1]
    said = normalise(after_mark(text) or text)
    same = [at for at, option in enumerate(texts) if said and normalise(option) == said]
    return LETTERS[same[0]] if len(same) == 1 else None


def _article(said: str, match: re.Match[str]) -> bool:
    """ "A" before a lower-case word is an article: "the answer is A good one"."""
    return match[1] in "AI" and bool(re.match(r"\s+[a-z]", said[match.end() :]))


def choice_key(answer: str, row: Mapping[str, Any]) -> str | None:
    """The letter as votes count it."""
    texts = options_of(row)
    return choice_letter(answer, len(texts) or len(LETTERS), texts=texts)


def options_of(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row's options, of its field `options` or `choices`."""
    return [str(option) for option in row.get("options", row.get("choices", ()))]


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match of the chosen letter with the gold's. Unscored where no letter can be read."""
    texts = options_of(row)
    gold = choice_letter(context.target, len(texts) or len(LETTERS))
    if gold is None:
        return Unscored("the gold answer is no letter of an option")
    letter = choice_key(answer, row)
    return Unscored("no option chosen") if letter is None else {"exact_match": float(letter == gold)}


def score_pictured(
    answer: str, row: Mapping[str, Any], context: ScoreContext, /
) -> Mapping[str, float] | Unscored:
    """A question about pictures (MMMU): as `score`, or for an open question by number or text; Unscored if the model saw none."""
    if row.get("images") and not context.saw_images:
        return Unscored("the row has pictures and the model was shown none")
    if options_of(row):
        return score(answer, row, context)
    from orrery.evaluate.scorers import exact, numeric

    if numeric.final_number(context.target) is not None:
        return numeric.score(answer, row, context)
    return exact.score(answer, row, context)
