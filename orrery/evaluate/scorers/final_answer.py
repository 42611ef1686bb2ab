"""Where in a worked answer the answer stands: behind `####`, in the last `\\boxed{}`, behind "the answer is", or nowhere marked."""

from __future__ import annotations

import re

# "the answer is", "Answer:" in the languages of MGSM
_MARKS = re.compile(
    r"(?:final\s+answer|the\s+(?:correct\s+|final\s+)?(?:answer|result|option|choice)|answer|antwort|ergebnis|respuesta"
    r"|r[ée]ponse|ответ|答案|答え|答|คำตอบ(?:คือ)?|సమాధానం|జవాబు|উত্তর|jibu)"
    r"\s*(?:(?:\*\*|\$|`)+\s*)?(?:is|are|lautet|ist|es|est|равен|是|为|為|は|เป็น|ni|হল|হলো|:|：|=|-|—|–)+\s*[:：]?",
    re.I,
)
_SENTENCE = re.compile(r"[.。।]\s*(?=\Z|[^\d\s.]|\n)|\n|[!?！？]\s")
MAX_CHARACTERS = 20_000
"""The end of an answer that is looked at."""
TRIES = 20
"""Boxes or phrases that are looked into, from the end."""


def after_hashes(text: str) -> str | None:
    """The rest of the line after the first `####`, as GSM8K's solutions end."""
    _, mark, rest = text.partition("####")
    return rest.strip().split("\n", 1)[0] if mark else None


def boxed(text: str) -> str | None:
    """What the last `\\boxed{...}` or `\\fbox{...}` holds, braces matched; `\\boxed 5` too. None where there is none."""
    matches = list(re.finditer(r"\\(?:boxed|fbox)\s*", text))
    for match in matches[: -TRIES - 1 : -1]:
        at = match.end()
        if text[at : at + 1] != "{":
            word = re.match(r"[^\s$}]+", text[at:])
            if word:
                return word[0]
            continue
        depth = 0
        for end in range(at, min(len(text), at + 10_000)):
            depth += (text[end] == "{") - (text[end] == "}")
            if depth == 0:
                return text[at + 1 : end].strip()
    return None


def after_mark(text: str) -> str | None:
    """What follows the last phrase such as "the answer is" that something does follow, to the end of the sentence or line."""
    for match in list(_MARKS.finditer(text))[: -TRIES - 1 : -1]:
        rest = text[match.end() :].lstrip(" \t*:$`\n")
        end = _SENTENCE.search(rest)
        said = rest[: end.start()] if end else rest
        if said.strip(" .*$`"):
            return said.strip()
    return None
