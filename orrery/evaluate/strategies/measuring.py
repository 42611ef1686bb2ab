"""Strategies on the rows of a task: the same prompts, seeds and records as a plain measurement has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orrery.evaluate.boundary import Bos
from orrery.evaluate.converse import Answer as Heard
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.scorers.table import KEYS
from orrery.evaluate.strategies.ask import answers
from orrery.evaluate.strategies.config import Strategy
from orrery.evaluate.strategies.judging import Reward
from orrery.evaluate.strategies.voice import Question, Voice
from orrery.evaluate.subject import Subject
from orrery.evaluate.task import Task
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key

if TYPE_CHECKING:
    from orrery.evaluate.measure import Asked


def strategic_answers(
    task: Task, subject: Subject, asked: Sequence[Asked], *, strategy: Strategy, reward: Reward | None, bos: Bos, seed: int
) -> Iterator[tuple[int, Heard]]:  # fmt: skip
    """The answer of the strategy to each row, by its place, as they become ready.

    Raises:
        OrreryError: the task is none that a strategy can answer, or `ask.require`.
    """
    check_task(task)
    voice = Voice(subject=subject, max_tokens=task.max_tokens, stop=task.stop, bos=bos)
    questions = [question_of(task, one) for one in asked]
    seeds = [key(seed, one.row.key) for one in asked]
    for place, found in answers(strategy, voice, questions, seeds, reward=reward):
        detail = {
            "tokens": found.tokens,
            "read": found.read,
            "calls": found.calls,
            "trace": list(found.trace),
        }
        yield place, Heard(
            prompt=questions[place].text, texts=(found.text,), turns=(found.text,), truncated=0, detail=detail, fault=found.fault
        )  # fmt: skip


def check_task(task: Task) -> None:
    """
    Raises:
        OrreryError: a strategy cannot answer it.
    """
    if task.kind != "generate":
        raise OrreryError(
            f"the task '{task.name}' compares log-probabilities, which no strategy changes; strategies answer tasks of kind generate"
        )
    for wrong, name in (
        (task.follow_ups, "follow_ups"),
        (task.tools, "tools"),
        (task.samples > 1, "samples"),
    ):
        if wrong:
            raise OrreryError(
                f"the task '{task.name}' has {name}, and a strategy gives one answer to one question; measure it without --strategy"
            )


def question_of(task: Task, one: Asked) -> Question:
    """A row as strategies see it. Its check is the task's own scorer, which knows the right answer."""
    fields, prompt, score, read = one.row.fields, one.prompt, find(task.score), KEYS.get(task.score)

    def check(text: str) -> float | None:
        found = score(text, fields, ScoreContext(target=prompt.target, answers=(text,)))
        return None if isinstance(found, Unscored) else float(next(iter(found.values())))

    return Question(
        text=prompt.text, messages=prompt.messages, own=prompt.own, fields=fields, check=check,
        key=None if read is None else lambda text: read(text, fields),
    )  # fmt: skip
