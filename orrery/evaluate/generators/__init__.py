"""Questions made on the spot with answers that were executed: arithmetic, python_expression, string_manipulation; and make_number,
the Game of 24.

    for row in rows("python_expression", n=100, seed=7, difficulty=2):
        row["question"], row["answer"]          # 'What is len("stone") + 3?', '8'
        row["expression"], row["kind"]          # 'len("stone") + 3', 'length': what was executed; print(expression) shows the answer

A question belongs to the test side or the training side by a hash of its expression, whatever the seed and however it is worded:
one in five is a test question. Seeds below 1000 draw test questions, all others training questions, so that no evaluation seed ever
shares an expression with a training seed; `split` says it outright. Within a draw no expression comes twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from orrery.evaluate.generators import arithmetic, make_number, python_expression, string_manipulation
from orrery.evaluate.generators.evaluator import evaluate
from orrery.evaluate.generators.problem import Problem
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.seeds import key

Split = Literal["train", "test"]
GENERATORS: dict[str, Callable[[random.Random, int], Problem]] = {
    "arithmetic": arithmetic.draw,
    "make_number": make_number.draw,
    "python_expression": python_expression.draw,
    "string_manipulation": string_manipulation.draw,
}
LEVELS = (1, 2, 3, 4, 5)
TEST_SEEDS = 1000
TEST_SHARE = 5
MAX_LENGTH = 60


def split_of(expression: str) -> Split:
    """The side an expression is on."""
    return "test" if key(0, "generated", expression) % TEST_SHARE == 0 else "train"


def rows(
    name: str,
    *,
    n: int,
    seed: int = 0,
    difficulty: int = 1,
    split: Split | None = None,
    kinds: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """`n` different questions with their answers: fields question, answer, expression, kind, difficulty.

    Args:
        difficulty: 1 (one step) to 5.
        split: the side to draw from; without it seeds below TEST_SEEDS draw test questions and others training questions.
        kinds: only questions of these kinds (the field `kind`).

    Raises:
        OrreryError: no such generator or level, or fewer than `n` different questions exist.
    """
    draw = GENERATORS.get(name)
    if draw is None:
        raise OrreryError(
            f"there is no generator '{name}'; there are {', '.join(GENERATORS)}.{suggest(name, GENERATORS)}"
        )
    if difficulty not in LEVELS:
        raise OrreryError(f"difficulty is a whole number from 1 to 5, not {difficulty!r}")
    return _rows(
        name, draw, n, seed, difficulty, split or ("test" if 0 <= seed < TEST_SEEDS else "train"), kinds
    )


def _rows(
    name: str,
    draw: Callable[[random.Random, int], Problem],
    n: int,
    seed: int,
    difficulty: int,
    split: Split,
    kinds: Sequence[str],
) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    generator = random.Random(key(seed, name, difficulty, split))
    since = 0  # draws since the last new question
    while len(seen) < n:
        since += 1
        if since > 20_000:
            raise OrreryError(
                f"the generator '{name}' has only about {len(seen)} different {split} questions of difficulty {difficulty}"
                f"{' of these kinds' if kinds else ''}; ask for fewer, or raise the difficulty"
            )
        problem = draw(generator, difficulty)
        if (
            problem.expression in seen
            or split_of(problem.expression) != split
            or (kinds and problem.kind not in kinds)
        ):
            continue
        answer = str(evaluate(problem.expression))
        if not answer or answer != answer.strip() or len(answer) > MAX_LENGTH:
            continue
        seen.add(problem.expression)
        since = 0
        yield {
            "question": problem.question,
            "answer": answer,
            "expression": problem.expression,
            "kind": problem.kind,
            "difficulty": difficulty,
        }
