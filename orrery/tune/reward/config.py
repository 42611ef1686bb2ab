"""What a run that trains a reward model is told, beside the loop's own settings (`train.config`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.tune.rl.problems import ProblemSet

Level = Literal["pair", "outcome", "process"]
"""What is judged: which of two answers is better, whether an answer is right, whether each step of it is."""

Aggregate = Literal["min", "product", "last"]
"""How the steps' probabilities of being right become an answer's score."""

Combine = Literal["mean", "min", "pessimist"]
"""How the members of an ensemble agree on a score: "pessimist" is their mean minus k standard deviations."""

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]


@config
class RewardConfig:
    """How scores are learned and read.

    Attributes:
        margin: by how many nats the better answer of a pair should lead, and `margin_of_rows` times the margin that a row gives more.
        centre: the price of the squared sum of a pair's scores.
        separator: what stands between the steps of an answer. aggregate: what their scores come to.
        members: reward models that are trained, each from its own head and in its own order; `combine` says how they agree,
            `k` how many standard deviations the pessimist takes off.
    """

    margin: NotNegative = 0.0
    margin_of_rows: NotNegative = 0.0
    centre: NotNegative = 0.0
    separator: Annotated[str, Field(min_length=1)] = "\n"
    aggregate: Aggregate = "min"
    members: Count = 1
    combine: Combine = "mean"
    k: NotNegative = 1.0


@config
class RewardLoaderConfig:
    """How batches are drawn.

    Attributes:
        context: tokens of a prompt with an answer, at most.
        rows: pairs or answers in a micro-batch; micro_batches: micro-batches in a step.
        long: what is longer is an error, is left out (and counted), loses the beginning of its prompt, or the end of its answers.
        share: the answers of a pair are read behind one reading of their prompt.
    """

    context: Annotated[int, Field(ge=2)] = 512
    rows: Count = 8
    micro_batches: Count = 1
    long: Literal["error", "drop", "left", "right"] = "left"
    share: bool = True
    seed: int = 0


@config
class SelfLabelled:
    """Answers that the base model draws itself and a checker judges: outcomes, or steps by what comes of them.

    Attributes:
        problems: with answers that can be checked (`rl.problems`). limit: so many of them.
        responses: answers to each. max_tokens, temperature: as they are drawn. stop: texts that end an answer without a chat format.
        rollouts: for steps, how often each beginning is continued to the end (Wang et al. 2023, arXiv:2312.08935).
        estimate: a step is right if any continuation is, or as right as the share that is.
    """

    problems: Annotated[tuple[ProblemSet, ...], Field(min_length=1)]
    limit: Count = 200
    responses: Count = 4
    max_tokens: Count = 128
    temperature: Annotated[float, Field(gt=0)] = 1.0
    stop: tuple[str, ...] = ()
    rollouts: Count = 4
    estimate: Literal["hard", "soft"] = "hard"
