"""What a tree of thoughts grows over: states, how the model is asked for next ones, which of its proposals count, what a state is worth.

Thoughts     any task: a state is the steps so far, a proposal is one more
MakeNumber   Game of 24: a state is the numbers left; a proposal takes two of them and writes their sum, difference, product or quotient
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeVar

from orrery.evaluate.generators.make_number import puzzle_of, reachable
from orrery.evaluate.scorers.final_answer import after_hashes, after_mark, boxed
from orrery.evaluate.strategies.config import Tree
from orrery.evaluate.strategies.voice import Question

S = TypeVar("S")


class Game(Protocol[S]):
    """A game whose states are values of S."""

    @property
    def propose(self) -> str:
        """The template of the prompt for next states, with what `fields` gives."""
        ...

    @property
    def evaluate(self) -> str:
        """The template of the prompt for a judgement."""
        ...

    def start(self) -> S: ...

    def fields(self, state: S) -> dict[str, str]:
        """`state` as text, and what else the prompts may show."""
        ...

    def moves(self, state: S, said: Sequence[str]) -> list[S]:
        """The legal next states among what the model proposed, each once, in the order proposed."""
        ...

    def over(self, state: S) -> bool:
        """Whether the state is an answer."""
        ...

    def value(self, state: S) -> float | None:
        """1 where an answer can be reached from here and 0 where it cannot; None where nobody can tell."""
        ...

    def answer(self, state: S) -> str:
        """The answer as it is scored."""
        ...


@dataclass(frozen=True)
class Thoughts:
    """Steps of any task. A state is an answer where its last step says one."""

    question: str
    propose: str = (
        "{{ question }}\n\nSteps so far:\n{{ state }}\n\nWrite only the next step, in one line. If nothing is left to do, write "
        "'The answer is' and the answer."
    )
    evaluate: str = (
        "{{ question }}\n\nSteps so far:\n{{ state }}\n\nCan these steps lead to the right answer? Say one word: sure, likely or "
        "impossible."
    )

    def start(self) -> tuple[str, ...]:
        return ()

    def fields(self, state: tuple[str, ...]) -> dict[str, str]:
        return {"question": self.question, "state": "\n".join(state)}

    def moves(self, state: tuple[str, ...], said: Sequence[str]) -> list[tuple[str, ...]]:
        lines = [next((line.strip() for line in text.splitlines() if line.strip()), "") for text in said]
        return list(dict.fromkeys((*state, line) for line in lines if line and line not in state))

    def over(self, state: tuple[str, ...]) -> bool:
        last = state[-1] if state else ""
        return any(read(last) is not None for read in (after_hashes, boxed, after_mark))

    def value(self, state: tuple[str, ...]) -> None:
        return None

    def answer(self, state: tuple[str, ...]) -> str:
        return "\n".join(state)


@dataclass(frozen=True)
class Numbers:
    """The numbers left, each with the expression that made it, and the moves so far."""

    left: tuple[tuple[Fraction, str], ...]
    lines: tuple[str, ...] = ()


_MOVE = re.compile(r"(-?\d+(?:/\d+)?)\s*([-+*/])\s*(-?\d+(?:/\d+)?)\s*=\s*(-?\d+(?:/\d+)?)")


@dataclass(frozen=True)
class MakeNumber:
    """Use every number once, with + - * / and brackets, to make the target. A wrong sum is no move, nor is a last one that misses the target."""

    numbers: tuple[int, ...]
    target: int
    propose: str = (
        "Take two of the numbers and + - * or / to make a new one. Write several possible next steps, one a line.\n"
        "Numbers: 2 8 8 14\n2 + 8 = 10 (left: 8 10 14)\n8 / 2 = 4 (left: 4 8 14)\n14 - 8 = 6 (left: 2 6 8)\n\n"
        "Numbers: {{ state }}\n"
    )
    evaluate: str = (
        "Can all of the numbers be used once to make {{ target }}? Say one word: sure, likely or impossible.\n"
        "Numbers: 4 6\n4 * 6 = 24\nsure\n\nNumbers: 1 2\nToo small.\nimpossible\n\nNumbers: {{ state }}\n"
    )

    @classmethod
    def of(cls, question: Question) -> MakeNumber:
        """
        Raises:
            OrreryError: the task's rows are no such puzzles.
        """
        numbers, target = puzzle_of(question.fields)
        return cls(numbers, target)

    def start(self) -> Numbers:
        return Numbers(tuple((Fraction(n), str(n)) for n in sorted(self.numbers)))

    def fields(self, state: Numbers) -> dict[str, str]:
        return {"state": " ".join(str(value) for value, _ in state.left), "target": str(self.target)}

    def moves(self, state: Numbers, said: Sequence[str]) -> list[Numbers]:
        found = [self._move(state, match) for text in said for match in _MOVE.finditer(text)]
        return list(
            dict.fromkeys(one for one in found if one is not None and (len(one.left) > 1 or self.over(one)))
        )

    def _move(self, state: Numbers, match: re.Match[str]) -> Numbers | None:
        left = list(state.left)
        taken = []
        for operand in (match[1], match[3]):
            place = next((i for i, (value, _) in enumerate(left) if str(value) == operand), None)
            if place is None:
                return None
            taken.append(left.pop(place))
        (a, first), (b, second) = taken
        if match[2] == "/" and b == 0:
            return None
        made = {"+": a + b, "-": a - b, "*": a * b}[match[2]] if match[2] != "/" else a / b
        if str(made) != match[4]:
            return None
        left.append((made, f"({first} {match[2]} {second})"))
        return Numbers(tuple(sorted(left)), (*state.lines, match[0]))

    def over(self, state: Numbers) -> bool:
        return len(state.left) == 1 and state.left[0][0] == self.target

    def value(self, state: Numbers) -> float:
        return float(Fraction(self.target) in reachable(tuple(value for value, _ in state.left)))

    def answer(self, state: Numbers) -> str:
        """The expression, where the target is made; else the moves."""
        if not self.over(state):
            return "\n".join(state.lines)
        return f"{state.left[0][1]} = {self.target}"


def game_of(cfg: Tree, question: Question) -> Thoughts | MakeNumber:
    """The game that a strategy plays on a question."""
    return MakeNumber.of(question) if cfg.game == "make-number" else Thoughts(question.own or question.text)
