"""Numbers as people and models write them, in any script's digits: read exactly, as fractions.

    1,080   1.080,50 (de, es)   1 080 (fr, ru)   1'080   1,00,000 (India)   ১৮   一百二十   3.5万   $18.00   -5   ½   1 3/4   2e3

A dot or comma with three digits after it may separate thousands or decimals. In languages that write a decimal comma both
readings are given, the language's own first; elsewhere a comma separates thousands and a dot decimals.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

COMMA_LANGUAGES = frozenset({"de", "es", "fr", "ru", "it", "pt", "pl", "nl", "uk", "bg", "fi", "vi", "id"})
MAX_DIGITS = 400

_SPACES = "\u00a0\u2007\u2009\u202f"
_HAN_DIGITS = "〇零一二两兩三四五六七八九十百千万萬億亿"


def _pattern(space: str) -> re.Pattern[str]:
    """A number; `space` is a plain space where the language groups thousands by it."""
    digits = rf"\d+(?:(?:[.,'\u2019\u066c\uff0c]|[{_SPACES}{space}](?=\d{{3}}(?!\d)))\d+)*(?:\u066b\d+)?"
    power = r"[eE](?P<e>[+-]?\d+)(?![\w.])|\s?(?:[×x*·]|\\times|\\cdot)\s?10\s?\^\s?\{?(?P<ten>[+-]?\d+)\}?"
    over = r"(?P<vulgar>[¼½¾⅐-⅞])|\s?[/\u2044]\s?(?P<over>\d+(?:\.\d+)?)(?![\d/])"
    return re.compile(
        r"(?P<whole>\d+)\s+(?P<top>\d+)\s*[/\u2044]\s*(?P<under>\d+)(?![\d/])"
        rf"|(?P<digits>\.\d+|{digits})(?:{power})?(?:{over})?(?P<scale>\s?[万萬億亿千]+)?"
        rf"|(?P<alone>[¼½¾⅐-⅞])|(?P<han>[{_HAN_DIGITS}]+)"
    )


_PATTERNS = {False: _pattern(""), True: _pattern(" ")}
_PIECE = re.compile(r"\d+(?:\.\d+)?")
_SCALES = {"千": 10**3, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}
_HAN = {c: at for at, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000}


@dataclass(frozen=True)
class Number:
    """A number in a text: the span, and what it may mean, most likely first."""

    start: int
    end: int
    readings: tuple[Fraction, ...]

    @property
    def value(self) -> Fraction:
        """The most likely reading."""
        return self.readings[0]


def find_numbers(text: str, *, language: str = "en") -> list[Number]:
    """Every number of the text in order; a chain of Chinese numerals counts only where the text has no digits at all.

    A minus is a sign where no number or closing bracket stands before it.
    """
    text = text.replace("{,}", ",").replace("\\,", "\u2009").replace("\\!", "").replace("\u2212", "-")
    comma = language in COMMA_LANGUAGES
    found: list[Number] = []
    numerals: list[Number] = []
    for match in _PATTERNS[comma].finditer(text):
        values = _readings(match, comma)
        spans = [(*match.span(), values)] if values else _pieces(match)
        for start, end, read in spans:
            start, sign = _sign(text, start)
            number = Number(start, end, tuple(sign * value for value in dict.fromkeys(read)))
            (numerals if match["han"] else found).append(number)
    return found or numerals


def _pieces(match: re.Match[str]) -> list[tuple[int, int, list[Fraction]]]:
    """Digits whose separators fit no way of grouping are several numbers: `3,4,5`."""
    if not match["digits"] or len(match[0]) > MAX_DIGITS or match["over"]:
        return []
    return [
        (match.start() + piece.start(), match.start() + piece.end(), _plain(piece[0], False))
        for piece in _PIECE.finditer(match[0])
        if not match["e"]
    ]


def _sign(text: str, at: int) -> tuple[int, int]:
    """Where the number starts with its sign and currency, and the sign."""
    start = at
    while start and (text[start - 1] == "\\" or unicodedata.category(text[start - 1]) == "Sc"):
        start -= 1
    if not start or text[start - 1] not in "-\u2013\uff0d":
        return at, 1
    before, touching = text[: start - 1].rstrip(), text[start - 2 : start - 1].strip()
    minuend = before[-1:].isdecimal() or before[-1:] in (")", "]", "}") or touching.isalnum()
    if minuend:
        return at, 1
    return start - 1, -1


def _readings(match: re.Match[str], comma_decimal: bool) -> list[Fraction]:
    if match["han"]:
        value = _han(match["han"])
        return [] if value is None else [Fraction(value)]
    if match["alone"]:
        return [_vulgar(match["alone"])]
    if match["top"]:
        return (
            []
            if len(match[0]) > MAX_DIGITS or not int(match["under"])
            else [int(match["whole"]) + Fraction(int(match["top"]), int(match["under"]))]
        )
    if len(match["digits"]) > MAX_DIGITS:
        return []
    power = (
        int(match["e"] or match["ten"] or 0) if len(match["e"] or match["ten"] or "") < 5 else MAX_DIGITS + 1
    )
    over = Fraction(match["over"]) if match["over"] and len(match["over"]) < MAX_DIGITS else Fraction(1)
    if abs(power) > MAX_DIGITS or not over:
        return []
    factor = Fraction(10) ** power / over
    for sign in (match["scale"] or "").strip():
        factor *= _SCALES[sign]
    more = _vulgar(match["vulgar"]) if match["vulgar"] else 0
    return [value * factor + more for value in _plain(match["digits"], comma_decimal)]


def _vulgar(sign: str) -> Fraction:
    return Fraction(unicodedata.numeric(sign)).limit_denominator(10)


def _plain(text: str, comma_decimal: bool) -> list[Fraction]:
    """Digits with separators. Several separators of one kind, or groups behind a first kind, are thousands."""
    text = re.sub(rf"['\u2019\u066c{_SPACES} ]", " ", text).replace("\uff0c", ",").replace("\u066b", ".")
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    parts = re.split(r"[., ]", text)
    marks = re.findall(r"[., ]", text)
    if not marks:
        return [Fraction(int(text))]
    if not parts[0]:
        return [Fraction("0." + parts[1])]
    kinds = list(dict.fromkeys(marks))
    grouped = _grouped(parts)
    if len(kinds) == 1 and len(marks) > 1:
        return [Fraction(int("".join(parts)))] if grouped else []
    if len(kinds) == 2 and marks.count(marks[-1]) == 1 and kinds[1] != " " and _grouped(parts[:-1]):
        return [Fraction("".join(parts[:-1]) + "." + parts[-1])]
    if len(kinds) > 1:
        return []
    whole, decimal = Fraction(int("".join(parts))), Fraction(f"{parts[0]}.{parts[1]}")
    if marks[0] == " ":
        return [whole] if grouped else []
    thousands = grouped and parts[0].strip("0") != ""
    if comma_decimal and thousands:
        return [decimal, whole] if marks[0] == "," else [whole, decimal]
    if marks[0] == "," and thousands:
        return [whole]
    return [decimal]


def _grouped(parts: list[str]) -> bool:
    """Groups of thousands: 1-3 digits, then threes; or India's twos before a last three; or fours (China)."""
    first, rest = len(parts[0]), [len(part) for part in parts[1:]]
    if not rest or first < 1 or first > 4:
        return first > 0 and not rest
    threes = first <= 3 and all(n == 3 for n in rest)
    india = first <= 2 and len(rest) > 1 and rest[-1] == 3 and all(n == 2 for n in rest[:-1])
    fours = all(n == 4 for n in rest)
    return threes or india or fours


def _han(text: str) -> int | None:
    """Chinese numerals: 一百二十 = 120, 两万五千 = 25000, 二〇二四 = 2024; None for a lone unit such as 万."""
    if all(c in _HAN for c in text):
        return int("".join(str(_HAN[c]) for c in text)) if len(text) <= MAX_DIGITS else None
    if text[0] in "百千万萬億亿":
        return None
    total, section, digit = 0, 0, 0
    for c in text:
        if c in _HAN:
            digit = _HAN[c]
        elif c in _HAN_UNITS:
            section += (digit or 1) * _HAN_UNITS[c]
            digit = 0
        else:
            total = (
                (total + section + digit) * _SCALES[c]
                if c in "億亿"
                else total + (section + digit) * _SCALES[c]
            )
            section = digit = 0
    return total + section + digit
