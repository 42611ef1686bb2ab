"""Whether two mathematical answers are the same: the check behind MATH (Hendrycks et al. 2021, arXiv:2103.03874).

Expressions are compared as exact values; lists and sets without regard to order; tuples, intervals and matrices part by part, with their
brackets; equations up to a constant factor; words as words. A value beyond the bounds is compared as text. No answer can make this slow:
lengths, depth, terms, digits and powers are all bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from orrery.evaluate.scorers.algebra import TooBig, Value
from orrery.evaluate.scorers.base import ScoreContext, Unscored
from orrery.evaluate.scorers.final_answer import MAX_CHARACTERS, after_hashes, after_mark, boxed
from orrery.evaluate.scorers.latex import Unreadable, read_expression

MAX_LENGTH = 1000
MAX_PARTS = 50
_DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[Bb]igg?[lr]?(?![a-z])|\\displaystyle|\\(?:quad|qquad)|\\[;: ]|~|\\!|\{,\}(?=\d{3})|,\\!(?=\d{3})"
    r"|\^\s*\{?\s*\\circ\s*\}?|\\degree|°|\\\$|[$€£]|\\limits|\\boxed"
)
_SAME = (
    (r"\\[dtc]frac", r"\\frac"), (r"\\(?:le|leq|leqslant)(?![a-z])", "≤"), (r"\\(?:ge|geq|geqslant)(?![a-z])", "≥"),
    (r"\\lt(?![a-z])", "<"), (r"\\gt(?![a-z])", ">"), (r"[−–]", "-"), ("×|·|⋅", "*"), ("÷", "/"), (r"√\s*(\d+)", r"\\sqrt{\1}"),
    ("√", r"\\sqrt"), ("π", r"\\pi "), ("∞", r"\\infty "), ("∪", r"\\cup "), (r"\\[,]", ""), (r"\\%", "%"), (r"\\lbrace", r"\\{"),
    (r"\\rbrace", r"\\}"), (r"\\(?:mathrm|mbox|textbf|textit|textrm|mathbf|mathit)\s*\{", r"\\text{"), (r"\\cdot|\\times", "*"),
)  # fmt: skip
_UNIT = re.compile(r"\\text\s*\{(?!\s*(?:or|and)\s*\})[^{}]*\}(?:\s*\^\s*\{?\d\}?)?")
_PLAIN_UNIT = re.compile(r"(?P<number>-?[\d.,/\s]*\d)\s*(?:[a-zA-Z]{2,}|[a-z] ?/ ?[a-z]+)[a-zA-Z0-9 ^./]*\.?")
_NAME = re.compile(r"\s*(?:[a-zA-Z]\w?(?:_\{?\w+\}?)?(?:\([a-z](?:,\s*[a-z])*\))?)\s*")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{(\d+)\}")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*?)\\end\{\1\}", re.S)


@dataclass(frozen=True)
class Parts:
    """Several answers together. kind: "list" (no order), "matrix", "union", or the brackets as "(]"."""

    kind: str
    parts: tuple[Answer, ...]


@dataclass(frozen=True)
class Equation:
    """left relation right, with "=" or an order."""

    relation: str
    left: Value
    right: Value


Answer = Value | Parts | Equation | str


def equivalent(answer: str, gold: str) -> bool:
    """Whether two answers, in LaTeX or plain writing, mean the same.

    50% equals 50 and 1/2 (where only one of them has the sign); a unit or a name before an equals sign may be missing on one side.
    """
    a, b = _cleaned(answer), _cleaned(gold)
    if a == b:
        return True
    if not a or not b or max(len(a), len(b)) > MAX_LENGTH:
        return False
    if ("%" in a) != ("%" in b):
        plain, hundredth = (a, b) if "%" in b else (b, a)
        without = hundredth.replace("%", "")
        return _same(read_answer(plain), read_answer(without)) or _same(
            read_answer(plain), read_answer(f"({without})/100")
        )
    first, second = read_answer(a.replace("%", "")), read_answer(b.replace("%", ""))
    return _same(first, second) or _words(a) == _words(b)


def read_answer(text: str) -> Answer:
    """A cleaned answer taken apart; what is no mathematics stays text."""
    try:
        return _read(text, 0)
    except (Unreadable, TooBig):
        return _words(text)


def _cleaned(text: str) -> str:
    """One way of writing: no dollar signs, sizes, thin spaces, units; `\\frac`, `-`, `*`."""
    text = text.strip()[: MAX_LENGTH + 1]
    for pattern, new in _SAME:
        text = re.sub(pattern, new, text)
    text = _DROPPED.sub("", text)
    text = _REPEATING.sub(_repeating, text).strip().rstrip(".,;").strip()
    if (bare := _UNIT.sub("", text).strip()) and re.search(r"\d|\\pi", bare):
        text = bare
    if unit := _PLAIN_UNIT.fullmatch(text):
        text = unit["number"].strip()
    if not re.search(r"[(\[{]", text):
        text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,)", lambda match: match[0].replace(",", ""), text)
    return text.strip()


def _repeating(match: re.Match[str]) -> str:
    """0.1\\overline{6} = (16 - 1) / 90."""
    whole, fixed, again = match.groups()
    under = (10 ** len(again) - 1) * 10 ** len(fixed)
    return f"({Fraction(int(whole + fixed + again) - int((whole + fixed) or 0), under)})"


def _read(text: str, depth: int) -> Answer:
    text = text.strip()
    if depth > 8:
        raise Unreadable("nested too deep")
    if "\\pm" in text or "±" in text:
        text = text.replace("±", "\\pm").replace("\\mp", "\\pm") if "\\mp" not in text else text
        plus = text.replace("\\pm", "+").replace("\\mp", "-")
        minus = text.replace("\\pm", "-").replace("\\mp", "+")
        return Parts("list", (_read(plus, depth + 1), _read(minus, depth + 1)))
    if matrix := _MATRIX.fullmatch(text):
        rows = [
            Parts("row", tuple(_read(cell, depth + 1) for cell in row.split("&")))
            for row in re.split(r"\\\\", matrix[2])
            if row.strip()
        ]
        return Parts("matrix", tuple(rows))
    words = re.split(r"\s*(?:\\text\s*\{\s*(?:or|and)\s*\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z]))\s*", text)
    if len(words) > 1 and all(words):
        return _joined("list", words, depth)
    for mark, kind in ((r"\cup", "union"), (",", "list"), (";", "list")):
        pieces = _split(text, mark)
        if len(pieces) > 1:
            return _joined(kind, pieces, depth)
    if text[:2] == "\\{" and text[-2:] == "\\}" and _whole(text[1:-2] + "}"):
        return _joined("list", _split(text[2:-2], ","), depth)
    if text[:1] in "([" and text[-1:] in ")]" and _whole(text):
        pieces = _split(text[1:-1], ",")
        if len(pieces) > 1:
            return _joined(text[0] + text[-1], pieces, depth)
    return _relation(text) or read_expression(text)


def _relation(text: str) -> Answer | None:
    """x = 5 is 5; y = 2x + 1, 3x < 2: an equation; x in [1, 2]: the interval."""
    if "\\in" in text and (member := re.fullmatch(r"\s*[a-zA-Z]\s*\\in(?![a-z])\s*(.*)", text, re.S)):
        return _read(member[1], 1)
    parts = re.split(r"([=<>≤≥])", text)
    if len(parts) == 1:
        return None
    if len(parts) == 3 and parts[1] == "=" and _NAME.fullmatch(parts[0]):
        return read_expression(parts[2])
    if len(parts) == 3:
        left, relation, right = parts
        if relation in ">≥":
            left, relation, right = right, {">": "<", "≥": "≤"}[relation], left
        return Equation(relation, read_expression(left), read_expression(right))
    signs = parts[1::2]
    return Parts("chain" + "".join(signs), tuple(read_expression(part) for part in parts[::2]))


def _joined(kind: str, pieces: list[str], depth: int) -> Parts:
    if len(pieces) > MAX_PARTS:
        raise Unreadable("too many parts")
    return Parts(kind, tuple(_read(piece, depth + 1) for piece in pieces))


def _split(text: str, mark: str) -> list[str]:
    """At the mark outside all brackets."""
    pieces, depth, start, at = [], 0, 0, 0
    while at < len(text):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith(mark, at):
            pieces.append(text[start:at])
            start = at + len(mark)
            at = start
            continue
        at += 1
    return [*pieces, text[start:]]


def _whole(text: str) -> bool:
    """Whether the first bracket closes with the last."""
    depth = 0
    for at, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth == 0:
            return at == len(text) - 1
    return False


def _same(a: Answer, b: Answer) -> bool:
    try:
        return _equal(a, b)
    except TooBig:
        return False


def _equal(a: Answer, b: Answer) -> bool:
    if isinstance(a, Value) and isinstance(b, Value):
        return a == b
    if isinstance(a, Equation) and isinstance(b, Equation):
        ratio = (a.left - a.right).ratio(b.left - b.right)
        return a.relation == b.relation and ratio is not None and (ratio > 0 or a.relation == "=")
    if isinstance(a, Parts) and isinstance(b, Parts):
        if a.kind != b.kind or len(a.parts) != len(b.parts):
            return False
        if a.kind in ("list", "union"):
            return _same_in_any_order(list(a.parts), list(b.parts))
        return all(_equal(x, y) for x, y in zip(a.parts, b.parts, strict=True))
    return isinstance(a, str) and isinstance(b, str) and a == b


def _same_in_any_order(left: list[Answer], right: list[Answer]) -> bool:
    """Equality is transitive, so the first partner is as good as any."""
    for part in left:
        partner = next((at for at, other in enumerate(right) if _equal(part, other)), None)
        if partner is None:
            return False
        right.pop(partner)
    return not right


def _words(text: str) -> str:
    """Text without LaTeX dress, brackets around all of it, spaces and case."""
    text = re.sub(r"\\(?:text|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"[\s\\{}]|^\(|\)$", "", text)
    return text.lower().rstrip(".")


def final_expression(text: str) -> str | None:
    """The answer of a solution: in the last box, else after `####` or "the answer is", else the whole of a short line."""
    text = text[-MAX_CHARACTERS:]
    for said in (boxed(text), after_hashes(text), after_mark(text)):
        if said:
            return said
    text = text.strip()
    return text if 0 < len(text) <= 80 and "\n" not in text else None


def expression_key(answer: str, row: Mapping[str, Any]) -> str | None:
    """The answer as votes count it: the text of its exact value."""
    said = final_expression(answer)
    if said is None:
        return None
    read = read_answer(_cleaned(said).replace("%", ""))
    return read.key() if isinstance(read, Value) else _words(_cleaned(said))


def score(answer: str, row: Mapping[str, Any], context: ScoreContext, /) -> Mapping[str, float] | Unscored:
    """exact_match: the final expression is equivalent to the gold's. Unscored where the answer arrives at none."""
    gold = final_expression(context.target)
    if gold is None:
        return Unscored("the gold answer has no final expression")
    said = final_expression(answer)
    return Unscored("no final answer") if said is None else {"exact_match": float(equivalent(said, gold))}
