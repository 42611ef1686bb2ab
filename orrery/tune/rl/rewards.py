"""What an answer is worth: a verdict, and terms beside it, each with a weight.

    R = sum_k w_k r_k        verifier  in [0, 1]   the environment's verdict (for one turn: the scorer of the problem)
                             format    0 or 1      the answer has a form
                             length    in [-1, 0]  a ramp over the last tokens of the room (`overlong`)
                             repetition in [-1, 0] the share of n-grams that were there before (Yeo et al. 2025, arXiv:2502.03373)
                             learned               a reward model's number

What is gamed first is what is paid for least: an answer that says nothing gets exactly 0 from everything (from a reward model no more than
the worst of the others), a form counts only if there
is something in it, and may be made to count only where the verdict is right. What several answers at once would get is the
scorers' business: they read the last one.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.rl.overlong import overlong_penalty

LONGEST = 20_000
"""Characters of an answer that a format's pattern looks at; more has no form."""

Learned = Callable[[Sequence[Sequence[Mapping[str, Any]]]], Sequence[float]]
"""Conversations that end with the answer -> a number each; nan where there is none."""


@config
class Verifier:
    """The verdict of the environment, over all turns together."""

    kind: Literal["verifier"] = "verifier"
    weight: float = 1.0


@config
class Format:
    """The whole answer matches `pattern` (a regular expression in which `.` is any character), and each of its groups holds something.

    when: always, or only where the verdict is right, so that form without substance gets nothing.
    """

    kind: Literal["format"] = "format"
    weight: float = 0.2
    pattern: str = r"<think>(.+)</think>\s*(.+)"
    when: Literal["always", "right"] = "right"

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise OrreryError(f"the format's pattern is no regular expression: {error}") from None


@config
class Length:
    """Costs over the last `buffer` tokens before `limit`, up to 1. limit: None is all the room there is."""

    kind: Literal["length"] = "length"
    weight: float = 1.0
    limit: Annotated[int, Field(ge=1)] | None = None
    buffer: Annotated[int, Field(ge=0)] = 0


@config
class Repetition:
    """Costs the share of the answer's n-grams of tokens that were there before."""

    kind: Literal["repetition"] = "repetition"
    weight: float = 0.5
    n: Annotated[int, Field(ge=1)] = 4


@config
class LearnedReward:
    """The number that a reward model gives the conversation: the one that `reward_model` of the recipe's stage names (`tune.reward`).

    Such numbers have no zero, so an answer that says nothing gets the round's worst of them, or 0 if that is lower.
    """

    kind: Literal["learned"] = "learned"
    weight: float = 1.0


Term = Annotated[Verifier | Format | Length | Repetition | LearnedReward, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An episode as rewards look at it.

    Attributes:
        text: what the last answer says. raw: the same as it was written, with control tokens. verdict: what the environment gave, all
            turns together.
        tokens: all ids that the model wrote. conversation: the messages, the last answer included.
    """

    text: str
    raw: str
    verdict: float
    tokens: Sequence[int]
    conversation: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Reward:
    """`total` is the verdict's share and the others'; `beside` is the others' alone; `parts` each term before its weight."""

    total: float
    beside: float
    verifier: float
    parts: Mapping[str, float]


def verdict_weight(terms: Sequence[Term]) -> float:
    """What the environment's verdicts count."""
    return sum(term.weight for term in terms if isinstance(term, Verifier))


def rewards(
    terms: Sequence[Term], answers: Sequence[Answered], *, room: int, learned: Learned | None = None
) -> list[Reward]:
    """The reward of every answer.

    Args:
        room: tokens that an answer may have.

    Raises:
        OrreryError: a learned reward is asked for and there is none.
    """
    told: Sequence[float] = [0.0] * len(answers)
    if any(isinstance(term, LearnedReward) for term in terms):
        if learned is None:
            raise OrreryError("the rewards name a learned one, and no reward model was given")
        told = learned([answer.conversation for answer in answers])
        spoke = [bool(answer.text.strip()) for answer in answers]
        heard = [n for n in itertools.compress(told, spoke) if not math.isnan(n)]
        told = [n if said else min([0.0, *heard]) for n, said in zip(told, spoke, strict=True)]
    return [_reward(terms, answer, room, number) for answer, number in zip(answers, told, strict=True)]


def _reward(terms: Sequence[Term], answer: Answered, room: int, learned: float) -> Reward:
    if not answer.text.strip():
        told: dict[str, float] = {
            term.kind: learned if isinstance(term, LearnedReward) else 0.0 for term in terms
        }
        beside = sum(term.weight * told[term.kind] for term in terms if isinstance(term, LearnedReward))
        return Reward(total=beside, beside=beside, verifier=0.0, parts=told)
    parts: dict[str, float] = {term.kind: _part(term, answer, room, learned) for term in terms}
    verifier = verdict_weight(terms) * answer.verdict
    beside = sum(term.weight * parts[term.kind] for term in terms if not isinstance(term, Verifier))
    return Reward(total=verifier + beside, beside=beside, verifier=answer.verdict, parts=parts)


def _part(term: Term, answer: Answered, room: int, learned: float) -> float:
    match term:
        case Verifier():
            return answer.verdict
        case Format():
            return float(has_form(answer.raw, term.pattern) and (term.when == "always" or answer.verdict > 0))
        case Length():
            limit = min(term.limit or room, room)
            return float(
                overlong_penalty(torch.tensor([len(answer.tokens)]), limit=limit, buffer=term.buffer)
            )
        case Repetition():
            return -repeated(answer.tokens, term.n)
        case LearnedReward():
            return float(learned)


def has_form(text: str, pattern: str) -> bool:
    """Whether all of the text matches, every group of the pattern with more than spaces in it."""
    if len(text) > LONGEST:
        return False
    found = re.fullmatch(pattern, text.strip(), re.DOTALL)
    return found is not None and all(group and group.strip() for group in found.groups())


def repeated(tokens: Sequence[int], n: int) -> float:
    """The share of n-grams that stood before in the sequence, in [0, 1); 0 where there are none."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
