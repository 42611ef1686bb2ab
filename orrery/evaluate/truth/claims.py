"""A text cut into claims: sentences, items of lists, and clauses that could stand alone.

Cutting is by punctuation and words, not by understanding: "Ann wrote it, and she sold it in Rome; nobody knew." gives three claims.
A fragment too short to claim anything stays with the clause before it.
"""

from __future__ import annotations

import re

_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|No|Fig|e\.g|i\.e|approx|Jr|Sr)|\b[A-Z])\.$")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9À-Þ])")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_CLAUSE = re.compile(
    r";\s+|,?\s+(?:but|while|whereas|although)\s+(?=\w)|,\s+and\s+(?=(?:he|she|it|they|we|i|this|that|there|the|its|his|her|their)\b)",
    re.IGNORECASE,
)
LEAST_WORDS = 3


def split_sentences(text: str) -> list[str]:
    """Sentences, one for each line at least; abbreviations and initials do not end one."""
    out: list[str] = []
    for line in text.splitlines():
        line = _ITEM.sub("", line).strip()
        if not line:
            continue
        start = 0
        for end in _END.finditer(line):
            if not _ABBREVIATION.search(line[start : end.start()].rstrip("\"')]")):
                out.append(line[start : end.start()].strip())
                start = end.end()
        out.append(line[start:].strip())
    return [sentence for sentence in out if re.search(r"\w", sentence)]


def split_claims(text: str) -> list[str]:
    """The claims of a text, in order; questions claim nothing and are left out."""
    claims: list[str] = []
    for sentence in split_sentences(text):
        if sentence.endswith("?"):
            continue
        parts: list[str] = []
        for part in (p.strip(" ,;") for p in _CLAUSE.split(sentence)):
            if parts and len(part.split()) < LEAST_WORDS:
                parts[-1] = f"{parts[-1]}, {part}"
            elif part:
                parts.append(part)
        claims += parts
    return claims
