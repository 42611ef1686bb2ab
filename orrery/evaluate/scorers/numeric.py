"""The final number of a worked answer against the gold number: GSM8K, MGSM, SVAMP, AIME, arithmetic.

Cobbe et al. 2021 (arXiv:2110.14168) end a solution with `#### n`; Shi et al. 2022 (arXiv:2210.03057) ask in eleven languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.final_answer import MAX_CHARACTERS, after_hashes, after_mark, boxed
from orrery.evaluate.scorers.numbers import Number, find_numbers


def final_number(text: str, *, language: str = "en") -> Number | None:
    """The number a worked answer arrives at, or None where it has no number.

    Taken from the line after `####`, else from the last `\\boxed{}`, else from the sentence after "the answer is" (in eleven
    languages; the last number after an equals sign there, else the first), else the last number of the text.
    """
    text = text[-MAX_CHARACTERS:]
    for said, first in ((after_hashes(text), True), (boxed(text), False), (after_mark(text), True)):
        if said is None:
            continue
        _, equals, result = said.rpartition("=")
        numbers = find_numbers(result if equals else said, language=language)
        if numbers:
            return numbers[0] if first and not equals else numbers[-1]
    numbers = find_numbers(text, language=language)
    return numbers[-1] if numbers else None


def number_key(answer: str, row: Mapping[str, Any]) -> Fraction | None:
    """The final number as votes count it."""
    number = final_number(answer, language=str(row.get("lang", "en")))
    return number.value if number else None


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match: the final number equals the gold's, exactly (18 = 18.00 = 1,8e1). The row's `lang` says how numbers are written.

    Unscored where the answer has no number.
    """
    number = final_number(answer, language=str(row.get("lang", "en")))
    gold = final_number(context.target)
    if gold is None:
        return Unscored("the gold answer has no number")
    if number is None:
        return Unscored("no number in the answer")
    return {"exact_match": float(gold.value in number.readings)}


def score_integer(
    answer: str, row: Mapping[str, Any], context: ScoreContext, /
) -> Mapping[str, float] | Unscored:
    """exact_match of whole numbers from 0 to 999 (AIME): leading zeros do not count, a number outside is wrong."""
    number, gold = final_number(answer), final_number(context.target)
    if gold is None:
        return Unscored("the gold answer has no number")
    if number is None:
        return Unscored("no number in the answer")
    inside = number.value.denominator == 1 and 0 <= number.value <= 999
    return {"exact_match": float(inside and number.value == gold.value)}
