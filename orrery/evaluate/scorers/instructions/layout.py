"""IFEval's instructions about how a response is laid out. Each check takes the response and the instruction's settings."""

from __future__ import annotations

import json
import re

ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def number_placeholders(response: str, *, num_placeholders: int) -> bool:
    """detectable_content:number_placeholders: at least so many `[placeholders]`."""
    return len(re.findall(r"\[[^\[\]\n]*\]", response)) >= num_placeholders


def postscript(response: str, *, postscript_marker: str) -> bool:
    """detectable_content:postscript: a postscript with that mark (P.S. or P.P.S), in any case, with or without spaces in it."""
    marker = postscript_marker.strip().lower()
    letters = [re.escape(part) for part in marker.split(".") if part.strip()]
    pattern = r"\.\s?".join(letters) + (r"\." if marker.endswith(".") else "")
    return re.search(pattern, response.lower()) is not None


def number_bullet_lists(response: str, *, num_bullets: int) -> bool:
    """detectable_format:number_bullet_lists: exactly so many lines that begin with `*` or `-`."""
    return len(re.findall(r"^\s*(?:\*[^*\n]|-)", response, re.M)) == num_bullets


def constrained_response(response: str) -> bool:
    """detectable_format:constrained_response: says one of the three sentences offered."""
    return any(answer in response for answer in ANSWERS)


def number_highlighted_sections(response: str, *, num_highlights: int) -> bool:
    """detectable_format:number_highlighted_sections: at least so many `*parts*` (or `**parts**`) that are not empty."""
    single = re.findall(r"\*[^\n*]*\*", response)
    double = re.findall(r"\*\*[^\n*]*\*\*", response)
    return sum(bool(part.strip("* \t")) for part in [*single, *double]) >= num_highlights


def multiple_sections(response: str, *, section_spliter: str, num_sections: int) -> bool:
    """detectable_format:multiple_sections: at least so many marks such as `SECTION 2`."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", response)) >= num_sections


def json_format(response: str) -> bool:
    """detectable_format:json_format: the whole response is JSON, in a code fence or not."""
    text = re.sub(r"\A```(?:json)?|```\Z", "", response.strip(), flags=re.I)
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str) -> bool:
    """detectable_format:title: a title in `<<double angular brackets>>` that is not empty."""
    return any(found.strip("<> \t") for found in re.findall(r"<<[^\n]+>>", response))


def two_responses(response: str) -> bool:
    """combination:two_responses: two different answers with `******` between them."""
    parts = [part.strip() for part in response.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def repeat_prompt(response: str, *, prompt_to_repeat: str) -> bool:
    """combination:repeat_prompt: begins with the request, word for word in any case."""
    return response.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(response: str, *, end_phrase: str) -> bool:
    """startend:end_checker: ends with that phrase; quotation marks around it or the response do not count."""
    return response.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def quotation(response: str) -> bool:
    """startend:quotation: the whole response stands in double quotation marks."""
    text = response.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def no_comma(response: str) -> bool:
    """punctuation:no_comma: not a single comma."""
    return "," not in response
