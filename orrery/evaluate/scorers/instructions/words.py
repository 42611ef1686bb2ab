"""IFEval's instructions about words, letters and length. Each check takes the response and the instruction's settings."""

from __future__ import annotations

import re

from orrery.evaluate.scorers.instructions.language import detect_language
from orrery.evaluate.scorers.instructions.relation import holds
from orrery.evaluate.scorers.instructions.sentences import sentences

_QUOTES = "'\"‘’“”"


def existence(response: str, *, keywords: list[str]) -> bool:
    """keywords:existence: every keyword stands in the response, in any case, also inside words."""
    lowered = response.lower()
    return all(keyword.strip().lower() in lowered for keyword in keywords)


def frequency(response: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """keywords:frequency: the keyword stands in the response at least, or less than, so many times."""
    return holds(response.lower().count(keyword.strip().lower()), relation, frequency)


def forbidden_words(response: str, *, forbidden_words: list[str]) -> bool:
    """keywords:forbidden_words: none of them stands in the response as a whole word."""
    return not any(re.search(rf"\b{re.escape(word)}\b", response, re.I) for word in forbidden_words)


def letter_frequency(response: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """keywords:letter_frequency: the letter stands there at least, or less than, so many times, in any case."""
    return holds(response.lower().count(letter.strip().lower()), let_relation, let_frequency)


def response_language(response: str, *, language: str) -> bool:
    """language:response_language: the response is in that language (ISO 639-1)."""
    return detect_language(response) == language.strip().lower()[:2]


def number_words(response: str, *, num_words: int, relation: str) -> bool:
    """length_constraints:number_words: at least, or less than, so many words, a word being letters, digits and `_` in a row."""
    return holds(len(re.findall(r"\w+", response)), relation, num_words)


def number_sentences(response: str, *, num_sentences: int, relation: str) -> bool:
    """length_constraints:number_sentences: at least, or less than, so many sentences."""
    return holds(len(sentences(response)), relation, num_sentences)


def number_paragraphs(response: str, *, num_paragraphs: int) -> bool:
    """length_constraints:number_paragraphs: exactly so many paragraphs between lines of `***`; none between two of them is empty."""
    paragraphs = [part.strip() for part in response.split("***")]
    inner = paragraphs[1:-1]
    return all(inner) and sum(map(bool, paragraphs)) == num_paragraphs


def nth_paragraph_first_word(
    response: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str
) -> bool:
    """length_constraints:nth_paragraph_first_word: so many paragraphs between empty lines, the nth beginning with that word."""
    paragraphs = [part.strip() for part in response.split("\n\n") if part.strip()]
    if len(paragraphs) != num_paragraphs or nth_paragraph > num_paragraphs:
        return False
    word = paragraphs[nth_paragraph - 1].split()[0].lstrip(_QUOTES).lower()
    return re.split(r"[.,?!'\"’”]", word)[0] == first_word.strip().lower()


def capital_word_frequency(response: str, *, capital_frequency: int, capital_relation: str) -> bool:
    """change_case:capital_word_frequency: at least, or less than, so many words in capitals (I and A among them)."""
    return holds(sum(word.isupper() for word in _tokens(response)), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    """change_case:english_capital: in English, and no small letter."""
    return response.isupper() and detect_language(response) == "en"


def english_lowercase(response: str) -> bool:
    """change_case:english_lowercase: in English, and no capital letter."""
    return response.islower() and detect_language(response) == "en"


def _tokens(text: str) -> list[str]:
    """Words as the Penn Treebank cuts them: U.S. and HIGH-END are one, DON'T and I'M are two."""
    words = re.findall(r"\w+(?:[.'’\-/]\w+)*\.?", text)
    return [
        piece
        for word in words
        for piece in re.split(r"(?i)(?=n['’]t\b)|(?=['’](?:s|m|d|re|ve|ll)\b)", word)
        if piece
    ]
