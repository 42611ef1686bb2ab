"""Texts made shorter without a model: the sentences that matter to a question, or a beginning and an end.

    extract         sentences ranked by the words they share with a question, as many as fit, in their order (for documents)
    head_and_tail   two thirds of the room for the beginning, the rest for the end (for logs, listings and other outputs of tools)

Both cut between characters that tokens end at, never inside one, and mark every gap.
"""

from __future__ import annotations

import re

from orrery.text.tokenizer import Tokenizer

GAP = " [...] "
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"\w{3,}")


def extract(text: str, question: str, tokens: int, tokenizer: Tokenizer) -> str:
    """At most `tokens` tokens of whole sentences, those first that share most of their words with the question; "" if none fits."""
    wanted = set(_WORD.findall(question.casefold()))
    sentences = [part for part in _SENTENCE.split(text) if part.strip()]
    words = [set(_WORD.findall(sentence.casefold())) for sentence in sentences]
    order = sorted(range(len(sentences)), key=lambda i: (-len(words[i] & wanted) / (len(words[i]) or 1), i))
    taken: list[int] = []
    for i in order:
        if len(tokenizer.encode(_joined(sentences, sorted([*taken, i])))) <= tokens:
            taken.append(i)
    return _joined(sentences, sorted(taken))


def head_and_tail(text: str, question: str, tokens: int, tokenizer: Tokenizer) -> str:
    """At most `tokens` tokens: the beginning, a mark for what is left out, the end; "" if not even the mark fits."""
    ends = [end for _, _, end in tokenizer.offsets(text)]
    if len(ends) <= tokens:
        return text
    for room in range(tokens, -1, -1):  # the seams can cost a token or two
        head = 2 * room // 3
        tail = room - head
        start = text[: ends[head - 1]] if head else ""
        end = text[ends[-tail - 1] :] if tail else ""
        cut = f"{start}{GAP}{end}".strip()
        if len(tokenizer.encode(cut)) <= tokens:
            return cut
    return ""


def _joined(sentences: list[str], places: list[int]) -> str:
    """Sentences with a mark wherever one is left out between two of them."""
    parts: list[str] = []
    for before, place in zip([None, *places], places, strict=False):
        if before is not None:
            parts.append(" " if place == before + 1 else GAP)
        parts.append(sentences[place])
    return "".join(parts)
