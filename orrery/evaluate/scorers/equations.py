"""Equations that stand in a worked answer, and whether they hold: what a calculator can say of a solution without knowing the answer."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable
from fractions import Fraction

_INSIDE = "0123456789.,()+-*/ \t"
"""What a side of an equation is made of."""
_SPELLED = str.maketrans({"$": "", "×": "*", "÷": "/", "−": "-", "·": "*"})
_CLAUSE = re.compile(r"[.,](?=\s)")
_NUMBER = re.compile(r"\s*(-?\d[\d,]*(?:\.\d+)?)")
_SIGNS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
}  # fmt: skip
MAX_EXPRESSION = 200


def exact(expression: str) -> Fraction | None:
    """The value of an expression of numbers, + - * / and brackets; None where it is none, or divides by zero."""
    if len(expression) > MAX_EXPRESSION:
        return None
    try:
        return _value(ast.parse(expression.replace(",", "").strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SIGNS:
            return _SIGNS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
    raise ValueError("no expression of numbers")


def equations(text: str) -> list[tuple[str, bool]]:
    """The equations written in a text, `2 + 3 = 5`, each with whether it holds; decimals may be rounded to those shown."""
    found = []
    parts = text.translate(_SPELLED).split("=")
    for before, after in itertools.pairwise(parts):
        left = _CLAUSE.split(before[len(before.rstrip(_INSIDE)) :])[-1].strip(" \t.,")
        right = _CLAUSE.split(after[: len(after) - len(after.lstrip(_INSIDE))])[0].strip(" \t.,(")
        if exact(right) is None and (number := _NUMBER.match(after)):
            right = number[1]
        values = exact(left), exact(right)
        if None in values or not any(re.search(r"\d\s*[-+*/]", side) for side in (left, right)):
            continue
        found.append((f"{left} = {right}", _same(values[0], values[1], right)))
    return found


def _same(left: Fraction | None, right: Fraction | None, written: str) -> bool:
    """Equal, or equal when rounded to the decimals that the right side shows."""
    assert left is not None and right is not None
    decimals = len(written.partition(".")[2]) if "." in written else 0
    return abs(left - right) <= (Fraction(1, 2 * 10**decimals) if decimals else 0)


def sound(text: str) -> float:
    """The share of the text's equations that hold; of a text without any it is 0.5, for nothing is known."""
    found = [holds for _, holds in equations(text)]
    return sum(found) / len(found) if found else 0.5
