"""Texts as the ids that settings take: words that must not be said, and marks over which no repetition runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orrery.kit.errors import OrreryError
from orrery.text.tokenizer import Tokenizer


def bad_word_ids(tokenizer: Tokenizer, words: Iterable[str | Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Each word as the tokenizer spells it, alone and after a space; ids stay as they are.

    A text can be spelled by other tokens too: this makes a word unlikely, it is no guard.

    Raises:
        OrreryError: an empty word.
    """
    out: dict[tuple[int, ...], None] = {}
    for word in words:
        spelled = [tokenizer.encode(word), tokenizer.encode(" " + word)] if isinstance(word, str) else [word]
        if not all(spelled):
            raise OrreryError("bad_words takes texts or sequences of ids that are not empty")
        out |= dict.fromkeys(tuple(int(i) for i in ids) for ids in spelled)
    return tuple(out)


def breaker_ids(tokenizer: Tokenizer, breakers: Iterable[str | int]) -> tuple[int, ...]:
    """Every id whose text holds one of these texts (a line break, a quotation mark ...); ids stay as they are.

    Raises:
        OrreryError: a text that no single token holds.
    """
    out: dict[int, None] = {}
    breakers = list(breakers)
    texts = any(isinstance(breaker, str) for breaker in breakers)
    spelled = {i: tokenizer.token_bytes(i) for i in sorted(tokenizer.vocabulary.values()) if texts}
    for breaker in breakers:
        mark = breaker.encode() if isinstance(breaker, str) else b""
        found = [id for id, data in spelled.items() if mark in data] if mark else [breaker]
        if not found or breaker == "":
            raise OrreryError(
                f"dry_breakers takes short texts, for example ['\\n', ':']; no token holds {breaker!r}"
            )
        out |= dict.fromkeys(int(i) for i in found)
    return tuple(out)
