"""The 25 verifiable instructions of IFEval (Zhou et al. 2023, arXiv:2311.07911), each a function of the response.

`follows("keywords:existence", {"keywords": ["tea"]}, response)`. Languages and sentences are told apart by our own rules (`language`,
`sentences`), which say what they do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from orrery.evaluate.scorers.instructions import layout, words
from orrery.kit.errors import OrreryError, suggest

CHECKS: dict[str, Callable[..., bool]] = {
    "change_case:capital_word_frequency": words.capital_word_frequency,
    "change_case:english_capital": words.english_capital,
    "change_case:english_lowercase": words.english_lowercase,
    "combination:repeat_prompt": layout.repeat_prompt,
    "combination:two_responses": layout.two_responses,
    "detectable_content:number_placeholders": layout.number_placeholders,
    "detectable_content:postscript": layout.postscript,
    "detectable_format:constrained_response": layout.constrained_response,
    "detectable_format:json_format": layout.json_format,
    "detectable_format:multiple_sections": layout.multiple_sections,
    "detectable_format:number_bullet_lists": layout.number_bullet_lists,
    "detectable_format:number_highlighted_sections": layout.number_highlighted_sections,
    "detectable_format:title": layout.title,
    "keywords:existence": words.existence,
    "keywords:forbidden_words": words.forbidden_words,
    "keywords:frequency": words.frequency,
    "keywords:letter_frequency": words.letter_frequency,
    "language:response_language": words.response_language,
    "length_constraints:nth_paragraph_first_word": words.nth_paragraph_first_word,
    "length_constraints:number_paragraphs": words.number_paragraphs,
    "length_constraints:number_sentences": words.number_sentences,
    "length_constraints:number_words": words.number_words,
    "punctuation:no_comma": layout.no_comma,
    "startend:end_checker": layout.end_checker,
    "startend:quotation": layout.quotation,
}


def follows(instruction: str, settings: Mapping[str, Any], response: str) -> bool:
    """Whether a response follows one instruction. Settings that are None (a table's empty cells) are left out.

    Raises:
        OrreryError: an instruction that is none of the 25, or a setting missing or too many.
    """
    check = CHECKS.get(instruction)
    if check is None:
        raise OrreryError(f"IFEval has no instruction '{instruction}'.{suggest(instruction, CHECKS)}")
    given = {name: value for name, value in settings.items() if value is not None}
    wanted = list(inspect.signature(check).parameters)[1:]
    if sorted(given) != sorted(wanted):
        raise OrreryError(
            f"the instruction '{instruction}' needs {', '.join(wanted) or 'no settings'}; given: {', '.join(given) or 'none'}"
        )
    return check(response, **given)
