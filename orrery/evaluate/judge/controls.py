"""Pairs whose quality is equal by construction, so that every preference is a habit of the judge.

an answer beside itself               whichever is taken, it is taken for its place
an answer beside itself said twice    whichever is taken, it is taken for its length (the repetition attack of Zheng et al. 2023)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orrery.evaluate.judge.bias import PositionBias, over_questions, position_bias
from orrery.evaluate.judge.pairwise import Judged, judge_pairs
from orrery.evaluate.judge.questions import Answers, Question
from orrery.evaluate.statistics.estimate import Estimate
from orrery.kit.chat import ChatModel

AGAIN = "\n\nTo say all of this once more:\n\n"


@dataclass(frozen=True, kw_only=True)
class Controls:
    """place: by equal answers. padded: the score of the padded answer less 1/2, over both orders; above 0: length is liked.
    unscored: judgements that could not be read, of `asked`."""

    place: PositionBias
    padded: Estimate
    unscored: int
    asked: int


def judge_controls(
    judge: ChatModel, questions: Sequence[Question], answers: Answers, **settings: Any
) -> Controls:
    """Two judgements in both orders for each answer; `settings` as of `judge_pairs`."""
    same = judge_pairs(
        judge, questions, answers, replace(answers, model=f"{answers.model} again"), **settings
    )
    pairs = judge_pairs(judge, questions, padded(answers), answers, **settings)
    judged = [*same, *pairs]
    return Controls(
        place=position_bias(same),
        padded=over_questions(pairs, _excess),
        unscored=sum(j.unscored for j in judged),
        asked=2 * len(judged),
    )


def padded(answers: Answers) -> Answers:
    """The same answers, each turn said twice."""
    texts = {id: tuple(turn + AGAIN + turn for turn in turns) for id, turns in answers.texts.items()}
    return Answers(model=f"{answers.model} twice", texts=texts)


def _excess(judged: Judged) -> float:
    return (judged.score or 0.0) - 0.5
