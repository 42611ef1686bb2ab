"""Not answering: said in words, or taken from a confidence that is too low."""

from __future__ import annotations

import re

_PHRASES = (
    r"(?:i|we) (?:do not|don'?t|really don'?t) (?:know|have (?:any |enough |that |this )?(?:information|knowledge|idea|data))",
    r"(?:i am|i'?m|we are) (?:not (?:sure|certain|aware|able to (?:answer|say|tell|find))|unable to (?:answer|say|determine|find)|unsure)",
    r"(?:i|we) (?:cannot|can'?t|could not|couldn'?t) (?:answer|say|tell|determine|find|know)",
    r"(?:i|we) have no (?:idea|information|knowledge|way)",
    r"(?:there is|there'?s) (?:not enough|no|insufficient) (?:information|answer|evidence|way)",
    r"(?:not enough|insufficient) information",
    r"(?:cannot|can'?t) be (?:determined|answered|known|inferred)",
    r"(?:is|are) (?:unanswerable|not (?:known|given|stated|mentioned|specified|provided))",
    r"(?:passage|text|context|document|source)s? (?:does not|doesn'?t|do not|don'?t) (?:say|tell|mention|state|specify|contain|provide|answer)",
    r"no one knows|nobody knows|it is unknown",
)
_ABSTAINS = re.compile("|".join(_PHRASES), re.IGNORECASE)
_ALONE = re.compile(r"\W*(?:unknown|unanswerable|no answer|not sure|n/?a|none|idk)\W*", re.IGNORECASE)
_FIRST = re.compile(r".*?[.!?\n]|.+", re.DOTALL)


def abstains(text: str) -> bool:
    """Whether the answer's first sentence says that there is none. "I don't know why, but it is 4" answers."""
    text = text.strip().replace("’", "'")
    first = _FIRST.match(text)
    if first is None:
        return False
    if _ALONE.fullmatch(first[0]):
        return True
    found = _ABSTAINS.search(first[0])
    return found is not None and re.search(r"\bbut\b", first[0][found.end() :]) is None
