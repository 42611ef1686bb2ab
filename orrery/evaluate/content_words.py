"""The words of a text that carry its matter, cut to their stems, so that "lives" and "living" are one."""

from __future__ import annotations

import re

_WORDS = (
    "a an and are as at be been by can could did do does ever for from had has have he her his in into is it its of on or out s she so "
    "than that the their them there they this to was were what when where which who whom whose will with would"
)
_COMMON = frozenset(_WORDS.split())
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ers", "ed", "er", "es", "ly", "s", "e", "y")


def stem(word: str) -> str:
    """A word without its commonest endings; short words stay as they are."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def content_stems(text: str) -> set[str]:
    """Stems of a text's words without the commonest words, in small letters."""
    return {stem(word) for word in re.findall(r"[^\W_]+", text.casefold()) if word not in _COMMON}
