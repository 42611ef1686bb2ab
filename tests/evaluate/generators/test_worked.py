"""Expressions worked out: every step is right, innermost first, and the last one is the answer."""

from __future__ import annotations

import pytest

from orrery.evaluate.generators import rows
from orrery.evaluate.generators.evaluator import evaluate
from orrery.evaluate.generators.worked import reasoned, steps


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ('len("stone") + 3 * 2', ['len("stone") = 5', "3 * 2 = 6", "5 + 6 = 11"]),
        ("(7 - 35) * -2", ["7 - 35 = -28", "-28 * -2 = 56"]),
        ('"ab".upper()[::-1]', ['"ab".upper() = "AB"', '"AB"[::-1] = "BA"']),
        ("sum(range(1 + 1, 5))", ["1 + 1 = 2", "sum(range(2, 5)) = 9"]),
        ("[n * 2 for n in [1, 2]]", ["[n * 2 for n in [1, 2]] = [2, 4]"]),
        ("not 3 > 2", ["3 > 2 = True", "not True = False"]),
        ("7", []),
    ],
)
def test_by_hand(expression: str, told: list[str]) -> None:
    assert steps(expression) == told


@pytest.mark.parametrize("name", ["arithmetic", "python_expression", "string_manipulation"])
@pytest.mark.parametrize("difficulty", [2, 5])
def test_every_step_is_right_and_the_last_is_the_answer(name: str, difficulty: int) -> None:
    for row in rows(name, n=60, seed=1001, difficulty=difficulty):
        worked = [step.rpartition(" = ") for step in steps(row["expression"])]
        assert worked and all(evaluate(left) == evaluate(value) for left, _, value in worked)
        assert str(evaluate(worked[-1][2])) == row["answer"]


def test_as_a_conversation() -> None:
    row = {"question": "What is 1 + 2?", "answer": "3", "expression": "1 + 2"}
    assert reasoned(row)[1] == {"role": "assistant", "content": "3", "reasoning": "1 + 2 = 3"}
    assert "reasoning" not in reasoned({**row, "expression": "3"})[1]
