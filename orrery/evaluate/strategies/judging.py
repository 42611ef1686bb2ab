"""What tells good answers, and good beginnings of answers, from bad ones.

likelihood   the model's own mean log-probability of a token
equations    the share of written equations that hold: a calculator, no knowledge of the answer
verifier     the task's own check, which knows the right answer: an upper bound for every other judge
reward       a reward model, of whole answers or of steps: a function from conversations to numbers
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from orrery.evaluate.prompts import Message
from orrery.evaluate.scorers.equations import sound
from orrery.evaluate.strategies.config import By
from orrery.evaluate.strategies.voice import Question, Said
from orrery.kit.errors import OrreryError

Reward = Callable[[Sequence[Sequence[Message]]], Sequence[float]]
"""Numbers for conversations that end with an answer, or with the beginning of one; larger is better."""


def scores(by: By, question: Question, said: Sequence[Said], reward: Reward | None) -> list[float]:
    """A number for each answer; larger is better."""
    match by:
        case "likelihood":
            return [one.logprob for one in said]
        case "equations":
            return [sound(one.thought + "\n" + one.text) for one in said]
        case "verifier":
            checks = [question.check(one.text) if question.check else None for one in said]
            return [float("-inf") if check is None else float(check) for check in checks]
        case "reward":
            assert reward is not None  # `require` saw to it
            given = reward([question.conversation(one.text or one.thought) for one in said])
            return [float("-inf") if math.isnan(score) else float(score) for score in given]


def require_judge(strategy: Any, reward: Reward | None) -> None:
    """
    Raises:
        OrreryError: a reward model is to judge and there is none.
    """
    if strategy.by == "reward" and reward is None:
        raise OrreryError(
            f"{strategy.kind} by reward needs a reward model; name its folder with {strategy.kind}:by=reward,reward=FOLDER, "
            "or choose by=likelihood or by=equations"
        )


def best(values: Sequence[float]) -> int:
    """The place of the largest; of equals the first."""
    return max(range(len(values)), key=lambda i: values[i])
