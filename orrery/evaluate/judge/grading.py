"""A grade for one answer by itself: from 1 to 10 as in MT-Bench, or one for each criterion of a rubric.

Grades need no second model and no orders, but a judge's grades bunch together and drift between judges: compare models with them
only under one judge, and in pairs where a difference is small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orrery.evaluate.judge.pairwise import judge_settings
from orrery.evaluate.judge.prompts import FAIR, PROMPTS, Prompt, choose_prompt, fields
from orrery.evaluate.judge.questions import Answers, Question
from orrery.evaluate.judge.verdict import grade_grammar, read_grade, read_grades, rubric_grammar
from orrery.kit.chat import ChatModel
from orrery.kit.config import config


@config
class Rubric:
    """What is graded: {name: what it means}, in whole grades from `low` to `high`."""

    criteria: dict[str, str]
    low: int = 1
    high: int = 5

    def prompt(self, prompt: Prompt) -> Prompt:
        """The prompt that asks for these grades, showing what `prompt` shows."""
        told = "\n".join(f"- {name}: {about}" for name, about in self.criteria.items())
        lines = "\n".join(f"{name}: [[{self.low}]]" for name in self.criteria)
        system = (
            f"You grade an answer by these criteria, each from {self.low} (worst) to {self.high} (best):\n{told}\n\n{FAIR} "
            f"Say in a few sentences why. Then end with the grades, one a line, written exactly so:\n{lines}"
        )
        return Prompt(
            kind="single",
            later=prompt.later,
            referenced=prompt.referenced,
            system=system,
            template=prompt.template,
        )


HELPFUL = Rubric(
    criteria={
        "follows": "does what the request asks, all of it, and nothing against it",
        "right": "what it states is true and its steps are sound",
        "complete": "nothing the person needs is missing",
        "clear": "easy to follow, no longer than needed",
    }
)
"""Criteria for any request."""


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One answer to one turn. `grades` by criterion ("" for a single grade); empty: unscored. `said`: the judge's text."""

    question: str
    turn: int
    category: str
    judge: str
    model: str
    length: int
    grades: Mapping[str, float] = field(default_factory=dict)
    said: str = ""

    @property
    def score(self) -> float | None:
        """The grade, or the mean of the criteria's; None: unscored."""
        return sum(self.grades.values()) / len(self.grades) if self.grades else None

    def to_dict(self) -> dict[str, Any]:
        """A row of a results file."""
        return asdict(self)


def grade_answers(
    judge: ChatModel,
    questions: Sequence[Question],
    answers: Answers,
    *,
    rubric: Rubric | None = None,
    prompts: Sequence[Prompt] = PROMPTS,
    explain: int = 400,
    seed: int = 0,
) -> list[Graded]:
    """Every answered turn graded by itself; see `judge_pairs` for the settings.

    Args:
        rubric: None: one grade from 1 to 10.
    """
    places = [
        (question, turn)
        for question in questions
        for turn in range(min(len(question.turns), len(answers.texts.get(question.id, ()))))
    ]
    asked = []
    for question, turn in places:
        prompt = choose_prompt(prompts, "single", question, turn)
        prompt = prompt if rubric is None else rubric.prompt(prompt)
        asked.append(prompt.messages(fields(question, turn, {"": answers.texts[question.id]})))
    if rubric is None:
        grammar = grade_grammar(explain)
    else:
        grammar = rubric_grammar(explain, tuple(rubric.criteria), rubric.low, rubric.high)
    replies = judge.reply(asked, judge_settings(judge, explain, grammar, seed))
    return [
        Graded(
            question=question.id,
            turn=turn + 1,
            category=question.category,
            judge=judge.name,
            model=answers.model,
            length=len(answers.texts[question.id][turn]),
            grades=_grades(reply.text, rubric),
            said=reply.fault or reply.text,
        )
        for (question, turn), reply in zip(places, replies, strict=True)
    ]


def _grades(text: str, rubric: Rubric | None) -> dict[str, float]:
    if rubric is None:
        grade = read_grade(text)
        return {} if grade is None else {"": grade}
    return read_grades(text, tuple(rubric.criteria), rubric.low, rubric.high) or {}
