"""Sentences of a text, by rules: a mark that ends one, what may follow it, and abbreviations that do not end one.

A sentence ends at `.`, `!`, `?` or `…` (with closing quotes or brackets) before a space, at 。！？ and the danda anywhere, at the end of a line that is followed by an empty line or a list mark, and at the end. A dot does not end one
behind an abbreviation or an initial (Dr., e.g., J.), inside a number, or in a list's numbering (`2. Second`), and dots or a closing quote before a small letter end none. On abstracts of papers that are stored
sentence by sentence nine of ten get exactly that count (a test measures it); most of the others are stored otherwise, by clauses or
lines.
"""

from __future__ import annotations

import re

_SHORT = """
mr mrs ms dr prof st sr jr rev gen sen rep gov capt col lt sgt maj hon pres vs etc e.g i.e cf al approx ca fig figs eq eqs no nos
vol vols pp p ed eds inc ltd co corp dept est jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun
a.m p.m u.s u.k u.n ph.d m.d b.a m.a bzw z.b d.h usw nr str ave blvd rd mt ft sec ch viz resp
"""
_SHORT_AT_END = "etc a.m p.m u.s u.k inc ltd co corp ph.d m.d jr sr al"
_ABBREVIATIONS = frozenset(_SHORT.split())
_ENDS_TOO = frozenset(_SHORT_AT_END.split())  # before a capital letter they end one
_END = re.compile(
    r"[.!?…]+[\"'”’»)\]*_]*(?=\s|\Z)|[。！？।॥؟][」』”’）]*|\n\s*(?:\n|(?=[-*•#]\s|\d{1,3}[.)]\s))"
)
_STARTERS = re.compile(r"[\"'“‘«(\[*_]*([^\W\d_]|\d)?")
_NUMBERING = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[a-zA-Z]|[ivxIVX]{1,4})\.\Z")


def sentences(text: str) -> list[str]:
    """The sentences in order, without the spaces between them; pieces without a letter or digit are no sentence."""
    found, start = [], 0
    for match in _END.finditer(text):
        if match.end() <= start or not _ends(text, start, match):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if any(c.isalnum() for c in sentence)]


def _ends(text: str, start: int, match: re.Match[str]) -> bool:
    mark = match[0]
    if mark[0] not in ".!?…":
        return True
    following = text[match.end() : match.end() + 40]
    after = following.lstrip()
    opening = _STARTERS.match(after)
    first = (opening[1] or "") if opening else ""
    line_end = after != following and "\n" in following[: len(following) - len(after)]
    if first.islower() and not line_end and (len(mark) > 1 or mark == "…"):
        return False  # '"Stop!" he said', 'well... yes'
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    if _NUMBERING.search(text[start : match.start() + 1]):
        return False
    word = re.search(r"[\w.]*\Z", text[start : match.start()])
    said = word[0].lower().strip(".") if word else ""
    if said in _ABBREVIATIONS:
        return said in _ENDS_TOO and (not first or first.isupper())
    initial = word is not None and re.fullmatch(r"[A-Z]", word[0]) is not None and word[0] != "I"
    return not (initial and first.isupper())
