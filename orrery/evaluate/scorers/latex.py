"""A mathematical expression in LaTeX or plain writing, read into an exact `algebra.Value`.

    \\frac{\\sqrt{3}}{2}   \\frac12   2\\frac{1}{2}   3x^2-1   sqrt(2)/2   2**3   \\binom{5}{2}   5!   \\log_2 7   1011_2   0.\\overline{3}

A recursive-descent parser over at most 400 tokens, nested at most 40 deep; nothing is evaluated by Python.
"""

from __future__ import annotations

import re
from fractions import Fraction

from orrery.evaluate.scorers.algebra import TooBig, Value, binomial, factorial

MAX_TOKENS = 400
MAX_DEPTH = 40
MAX_DIGITS = 400
_FUNCTIONS = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp max min gcd lcm det deg arg"
)
FUNCTIONS = frozenset(_FUNCTIONS.split())
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|\\([a-zA-Z]+)|\\(.)|(\*\*|[^\s]))")
_WORDS = re.compile(
    r"(?<![\\a-zA-Z])(?:sqrt|pi|infty|theta|alpha|beta|sin|cos|tan|log|ln|arcsin|arccos|arctan)(?![a-zA-Z])"
)
_LETTERS = (
    "alpha beta gamma delta epsilon theta lambda mu nu phi psi rho sigma tau omega pi infty ell hbar emptyset"
)
_GREEK = frozenset(_LETTERS.split())
_OPEN = {"(": ")", "[": "]", "{": "}"}


class Unreadable(ValueError):
    """No expression of this grammar."""


def read_expression(text: str) -> Value:
    """The value of an expression.

    Raises:
        Unreadable: it is not an expression, or longer or deeper than the bounds.
        TooBig: its exact value is beyond the bounds of `algebra`, or it divides by zero.
    """
    parser = _Parser(_WORDS.sub(lambda match: "\\" + match[0], text))
    value = parser.sum(0)
    if parser.at < len(parser.tokens):
        raise Unreadable(f"{parser.tokens[parser.at]!r} was not expected")
    return value


class _Parser:
    """Tokens: a number begins with a digit or a dot, a command with a backslash, anything else is one character."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        for match in _TOKEN.finditer(text):
            self.tokens.append(match[1] or (f"\\{match[2]}" if match[2] else match[3] or match[4]))
            if len(self.tokens) > MAX_TOKENS:
                raise Unreadable("too long")
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted or 'more'!r} was expected")
        self.at += 1
        return token

    def sum(self, depth: int) -> Value:
        """a + b - c"""
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        value = self.product(depth)
        while self.peek() in ("+", "-"):
            sign = self.take()
            right = self.product(depth)
            value = value + right if sign == "+" else value - right
        return value

    def product(self, depth: int) -> Value:
        """a * b / c, and factors side by side: 2x(y+1)"""
        value = self.signed(depth)
        while token := self.peek():
            if token in ("*", "\\cdot", "\\times"):
                self.take()
                value = value * self.signed(depth)
            elif token in ("/", "\\div", ":"):
                self.take()
                value = value / self.signed(depth)
            elif self._begins_factor(token):
                value = value * self.power(depth)
            else:
                break
        return value

    def _begins_factor(self, token: str) -> bool:
        before = self.tokens[self.at - 1]
        if token[0].isdigit() or token[0] == ".":
            return not before[0].isdigit()  # 2 3 is no product
        return token in _OPEN or (token[0] == "\\" and token != "\\%") or token.isalpha()

    def signed(self, depth: int) -> Value:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        value = self.power(depth)
        return value if sign > 0 else -value

    def power(self, depth: int) -> Value:
        """base^exponent, from the right"""
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        base = self.postfix(depth)
        if self.peek() in ("^", "**"):
            plain = self.take() == "**"
            exponent = self.power(depth + 1) if plain and self.peek() != "-" else self.exponent(depth + 1)
            return base**exponent
        return base

    def exponent(self, depth: int) -> Value:
        """What stands behind ^: a group, a signed number, one letter; a further ^ binds first."""
        if self.peek() == "-":
            self.take()
            return -self.exponent(depth)
        value = self.atom(depth)
        if self.peek() == "^":
            self.take()
            value = value ** self.exponent(depth + 1)
        return value

    def postfix(self, depth: int) -> Value:
        value = self.atom(depth)
        while self.peek() == "!":
            self.take()
            number = value.rational
            value = Value.atom(("!", value.key())) if number is None else Value.number(factorial(number))
        return value

    def argument(self, depth: int) -> Value:
        """What a command takes: a group, or one digit, letter or command."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return Value.number(int(token[0]))
        return self.atom(depth + 1)

    def group(self, depth: int) -> Value:
        closing = _OPEN[self.take()]
        value = self.sum(depth + 1)
        self.take(closing)
        return value

    def atom(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise Unreadable("nested too deep")
        token = self.peek()
        if token in _OPEN:
            return self.group(depth)
        self.take()
        if token[0].isdigit() or token[0] == ".":
            return self.number(token, depth)
        if token == "|":
            value = self.sum(depth + 1)
            self.take("|")
            return _absolute(value)
        if token[0] == "\\":
            return self.command(token[1:], depth)
        if token.isalpha():
            return Value.atom(self.subscripted(token))
        raise Unreadable(f"{token!r} was not expected")

    def subscripted(self, name: str) -> str:
        if self.peek() != "_":
            return name
        self.take()
        if self.peek() != "{":
            return f"{name}_{self.take()}"
        start = self.at + 1
        end = self.tokens.index("}", start) if "}" in self.tokens[start:] else start
        self.at = end + 1
        return f"{name}_{''.join(self.tokens[start:end])}"

    def number(self, token: str, depth: int) -> Value:
        if len(token) > MAX_DIGITS:
            raise TooBig("digits")
        if self.peek() == "_":
            return Value.atom(("base", token.lstrip("0"), self.subscripted("")))
        value = Value.number(Fraction(token.rstrip(".") or 0))
        if self.peek() == "\\frac" and token.isdigit():
            start = self.at
            part = self.atom(depth).rational
            if part is not None and 0 < part < 1:
                return value + Value.number(part)  # a mixed number, 2 1/2
            self.at = start
        return value

    def command(self, name: str, depth: int) -> Value:
        if name == "frac":
            top = self.argument(depth)
            return top / self.argument(depth)
        if name == "sqrt":
            order = Value.number(2)
            if self.peek() == "[":
                order = self.group(depth)
            return self.argument(depth) ** (Value.number(1) / order)
        if name == "binom":
            n, k = self.argument(depth).rational, self.argument(depth).rational
            if n is None or k is None or n.denominator * k.denominator != 1:
                raise Unreadable("binomial of an expression")
            return Value.number(binomial(int(n), int(k)))
        if name in ("overline", "bar", "vec", "hat", "mathbf", "mathcal", "operatorname"):
            return Value.atom((name, self.argument(depth).key()))
        if name in FUNCTIONS:
            label = self.subscripted(name)
            power = None
            if self.peek() == "^":
                self.take()
                power = self.exponent(depth + 1)
            inside = self.group(depth) if self.peek() in _OPEN else self.power(depth + 1)
            value = Value.atom((label, inside.key()))
            return value if power is None else value**power
        if name in _GREEK:
            return Value.atom(self.subscripted("\\" + name))
        raise Unreadable(f"\\{name} is not read")


def _absolute(value: Value) -> Value:
    number = value.rational
    return Value.atom(("abs", value.key())) if number is None else Value.number(abs(number))
