"""Whole-number arithmetic. Level 1: one sign, one digit; 2: two digits; 3: two signs; 4: brackets; 5: three or four signs, brackets."""

from __future__ import annotations

import random

from orrery.evaluate.generators.problem import Problem

_ASKED = ("What is {}?", "How much is {}?", "Calculate {}.", "{} = ?", "Work out {}.")
_KINDS = {"+": "sum", "-": "difference", "*": "product"}


def draw(generator: random.Random, difficulty: int) -> Problem:
    """One question; the answer is a whole number."""
    expression, kind = _expression(generator, difficulty)
    return Problem(generator.choice(_ASKED).format(expression), expression, kind)


def _expression(generator: random.Random, difficulty: int) -> tuple[str, str]:
    if difficulty == 1:
        sign = generator.choice("+-*")
        a, b = generator.randint(0, 20), generator.randint(0, 20)
        if sign == "*":
            a, b = generator.randint(0, 12), generator.randint(0, 12)
        return f"{a} {sign} {b}", _KINDS[sign]
    if difficulty == 2:
        sign = generator.choice("+-*")
        a, b = (
            generator.randint(10, 99),
            generator.randint(10, 99) if sign != "*" else generator.randint(2, 9),
        )
        return f"{a} {sign} {b}", _KINDS[sign]
    if difficulty == 3:
        a, b, c = (generator.randint(1, 50) for _ in range(3))
        first, second = generator.choice("+-"), generator.choice("+-*")
        return (
            f"{a} {first} {b} {second} {c}" if second != "*" else f"{a} {first} {b % 10 + 1} * {c % 10 + 1}"
        ), "chain"
    if difficulty == 4:
        inner = f"({generator.randint(1, 50)} {generator.choice('+-')} {generator.randint(1, 50)})"
        factor = generator.randint(2, 12)
        outer = f"{inner} * {factor}" if generator.random() < 0.5 else f"{factor} * {inner}"
        return f"{outer} {generator.choice('+-')} {generator.randint(1, 99)}", "brackets"
    left, right = (
        f"({generator.randint(2, 99)} {generator.choice('+-')} {generator.randint(2, 99)})" for _ in range(2)
    )
    quotient = f"{generator.randint(100, 999)} // {generator.randint(2, 20)}"
    return f"{left} * {right} {generator.choice('+-')} {quotient}", "nested"
