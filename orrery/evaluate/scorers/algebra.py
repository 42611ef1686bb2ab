"""Exact arithmetic of short answers: quotients of sums of products of numbers, roots, pi, i, variables and named functions.

    value = numerator / denominator            both sums:   coefficient * product of atom ** exponent
    a/b = c/d  <=>  a*d = c*b                  so 1/sqrt(2) equals sqrt(2)/2, and 1/(1+sqrt(2)) equals sqrt(2)-1

Coefficients are fractions. A root of a whole number is a product of primes to broken powers (sqrt 8 = 2 * 2^(1/2)), i^2 = -1. What this
arithmetic does not open (sin x, 2^x, the root of a sum) is an atom of its own, equal to itself. Everything is bounded: what would
grow beyond the bounds (9^9^9) raises TooBig instead of being computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import isqrt

Atom = str | int | tuple[str, ...]  # a variable, a prime under a root, or a function with its arguments' keys
Monomial = tuple[tuple[Atom, Fraction], ...]
Sum = dict[Monomial, Fraction]

MAX_TERMS = 120
MAX_BITS = 4096
MAX_POWER = 32
MAX_FACTORED = 10**10
ONE: Sum = {(): Fraction(1)}


class TooBig(ArithmeticError):
    """The exact result would be beyond the bounds, or does not exist (a division by zero)."""


class Value:
    """An exact value. Equality is mathematical equality, as far as this arithmetic opens it."""

    __slots__ = ("over", "sum")

    def __init__(self, sum_: Sum, over: Sum = ONE) -> None:
        """sum_ / over; a denominator of one term is divided out."""
        if not over:
            raise TooBig("division by zero")
        if len(over) == 1:
            ((monomial, coefficient),) = over.items()
            inverse = tuple((atom, -exponent) for atom, exponent in monomial)
            sum_, over = _times(sum_, {inverse: 1 / coefficient}), ONE
        self.sum, self.over = sum_, over

    @classmethod
    def number(cls, value: Fraction | int) -> Value:
        """A rational number."""
        return cls({(): _bounded(Fraction(value))} if value else {})

    @classmethod
    def atom(cls, atom: Atom) -> Value:
        """A variable, a constant such as pi or i, or a function that is not opened."""
        return cls({((atom, Fraction(1)),): Fraction(1)})

    def __add__(self, other: Value) -> Value:
        return Value(
            _plus(_times(self.sum, other.over), _times(other.sum, self.over)), _times(self.over, other.over)
        )

    def __neg__(self) -> Value:
        return Value({monomial: -c for monomial, c in self.sum.items()}, self.over)

    def __sub__(self, other: Value) -> Value:
        return self + -other

    def __mul__(self, other: Value) -> Value:
        return Value(_times(self.sum, other.sum), _times(self.over, other.over))

    def __truediv__(self, other: Value) -> Value:
        return Value(_times(self.sum, other.over), _times(self.over, other.sum))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and _times(self.sum, other.over) == _times(other.sum, self.over)

    __hash__ = None  # type: ignore[assignment]  # equal values need not be written alike

    @property
    def rational(self) -> Fraction | None:
        """The value where it is a rational number."""
        if self.over != ONE or any(monomial for monomial in self.sum):
            return None
        return self.sum.get((), Fraction(0))

    def ratio(self, other: Value) -> Fraction | None:
        """self / other where that is a rational number; None for other = 0."""
        a, b = _times(self.sum, other.over), _times(other.sum, self.over)
        if not b or a.keys() != b.keys():
            return None
        ratios = {a[monomial] / b[monomial] for monomial in b}
        return ratios.pop() if len(ratios) == 1 else None

    def key(self) -> str:
        """A text that equal values of the same shape share: the name of an atom made of this value."""
        return f"{_name(self.sum)}/{_name(self.over)}"

    def __pow__(self, exponent: Value) -> Value:
        power = exponent.rational
        if power is None:
            return Value.atom(("^", self.key(), exponent.key()))
        if power.denominator == 1:
            return self._whole_power(power.numerator)
        if abs(power) > MAX_POWER or power.denominator > MAX_POWER:
            raise TooBig("exponent")
        if self.over != ONE:
            return Value(self.sum) ** exponent / Value(self.over) ** exponent
        if not self.sum:
            return Value({}) if power > 0 else Value(ONE, {})
        if len(self.sum) > 1:
            return Value({((("sum", _name(self.sum)), power),): Fraction(1)})
        ((monomial, coefficient),) = self.sum.items()
        if any(atom == "i" for atom, _ in monomial):
            return Value.atom(("^", self.key(), exponent.key()))
        made = _times(
            {tuple((atom, e * power) for atom, e in monomial): Fraction(1)}, _root(abs(coefficient), power)
        )
        if coefficient > 0:
            return Value(made)
        if power.denominator == 2:
            return Value(made) * Value.atom("i") ** Value.number(power.numerator)
        return -Value(made) if power.denominator % 2 and power.numerator % 2 else Value(made)

    def _whole_power(self, power: int) -> Value:
        base = self if power >= 0 else Value(self.over, self.sum)
        power = abs(power)
        size = max((_bits(c) for c in (*base.sum.values(), *base.over.values())), default=0)
        if power * size > MAX_BITS or (power > MAX_POWER and (len(base.sum) > 1 or base.over != ONE)):
            raise TooBig("power")
        if power > 10**6:
            if all(not m for m in base.sum):  # 1, -1 and 0 have no bits to speak of
                value = base.rational or Fraction(0)
                return Value.number(value if power % 2 else abs(value))
            raise TooBig("power")
        if len(base.sum) == 1 and base.over == ONE:
            ((monomial, coefficient),) = base.sum.items()
            return Value(_times({tuple((a, e * power) for a, e in monomial): coefficient**power}, ONE))
        made = Value.number(1)
        for _ in range(power):
            made = made * base
        return made


def _plus(a: Sum, b: Sum) -> Sum:
    made = dict(a)
    for monomial, coefficient in b.items():
        total = made.get(monomial, Fraction(0)) + coefficient
        if total:
            made[monomial] = _bounded(total)
        else:
            made.pop(monomial, None)
    if len(made) > MAX_TERMS:
        raise TooBig("terms")
    return made


def _times(a: Sum, b: Sum) -> Sum:
    if len(a) * len(b) > MAX_TERMS**2 // 2:
        raise TooBig("terms")
    made: Sum = {}
    for left, c in a.items():
        for right, d in b.items():
            exponents: dict[Atom, Fraction] = dict(left)
            for atom, exponent in right:
                exponents[atom] = exponents.get(atom, Fraction(0)) + exponent
            monomial, factor = _folded(exponents)
            made = _plus(made, {monomial: _bounded(c * d * factor)})
    return made


def _folded(exponents: Mapping[Atom, Fraction]) -> tuple[Monomial, Fraction]:
    """Whole powers of primes and squares of i become part of the coefficient; atoms to the power 0 go."""
    factor = Fraction(1)
    kept = {}
    for atom, exponent in exponents.items():
        if isinstance(atom, int):
            whole = exponent.numerator // exponent.denominator
            if abs(whole) * atom.bit_length() > MAX_BITS:
                raise TooBig("power")
            factor *= Fraction(atom) ** whole
            exponent -= whole
        elif atom == "i" and exponent.denominator == 1:
            factor *= -1 if exponent.numerator % 4 >= 2 else 1
            exponent = Fraction(exponent.numerator % 2)
        if abs(exponent) > 10**6:
            raise TooBig("power")
        if exponent:
            kept[atom] = exponent
    return tuple(sorted(kept.items(), key=lambda item: repr(item[0]))), factor


def _root(value: Fraction, power: Fraction) -> Sum:
    """A positive fraction to a broken power, as a product of primes to powers."""
    exponents: dict[Atom, Fraction] = {}
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        for prime, times in _factors(number).items():
            exponents[prime] = exponents.get(prime, Fraction(0)) + sign * times * power
    monomial, factor = _folded(exponents)
    return {monomial: factor}


def _factors(number: int) -> dict[int, int]:
    """The prime factors; a number beyond MAX_FACTORED must be a square."""
    if number > MAX_FACTORED:
        root = isqrt(number) if number.bit_length() <= MAX_BITS else 0
        if root * root != number:
            raise TooBig("root")
        return {prime: 2 * times for prime, times in _factors(root).items()}
    found: dict[int, int] = {}
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            found[prime] = found.get(prime, 0) + 1
            number //= prime
        prime += 1 + (prime > 2)
    if number > 1:
        found[number] = found.get(number, 0) + 1
    return found


def _bits(value: Fraction) -> int:
    """Bits beyond one digit of 0 or 1, of numerator and denominator: what a power multiplies."""
    return (abs(value.numerator).bit_length() if abs(value.numerator) > 1 else 0) + (
        value.denominator.bit_length() if value.denominator > 1 else 0
    )


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > 2 * MAX_BITS:
        raise TooBig("number")
    return value


def _name(terms: Sum) -> str:
    return "+".join(sorted(f"{coefficient}*{monomial!r}" for monomial, coefficient in terms.items())) or "0"


def binomial(n: int, k: int) -> Fraction:
    """n over k, for 0 <= k <= n <= 200."""
    if not 0 <= k <= n <= 200:
        raise TooBig("binomial")
    made = Fraction(1)
    for at in range(min(k, n - k)):
        made = made * (n - at) / (at + 1)
    return made


def factorial(n: Fraction) -> Fraction:
    """n!, for whole n from 0 to 200."""
    if n.denominator != 1 or not 0 <= n <= 200:
        raise TooBig("factorial")
    made = 1
    for factor in range(2, int(n) + 1):
        made *= factor
    return Fraction(made)
