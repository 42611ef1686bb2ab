"""The strategies and their settings: what is done at test time to answer one question with one model.

self-consistency:n=16,temperature=0.7                            as the command line writes it
{kind: self-consistency, n: 16, temperature: 0.7}                as a recipe does
"""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from orrery.kit.config import config, digest, resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.yaml import YamlFault, parse_yaml

STEP_BY_STEP = "Let's think step by step."
"""Kojima et al. 2022, arXiv:2205.11916."""
Effort = Literal["low", "medium", "high"]
EFFORTS: dict[Effort, int] = {"low": 512, "medium": 2048, "high": 8192}
"""Tokens of thinking that each setting allows at most."""
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0)]
By = Literal["likelihood", "equations", "verifier", "reward"]
"""What tells good answers from bad ones (`judging`)."""


@config
class Direct:
    """Answer once, as the task asks: what every other strategy is compared with.

    Attributes:
        max_tokens: of the answer; None, here and below: as the task says.
    """

    kind: Literal["direct"] = "direct"
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count | None = None


@config
class ChainOfThought:
    """Write the steps first, then the answer. Wei et al. 2022, arXiv:2201.11903; without examples Kojima et al. 2022.

    Attributes:
        instruction: ends the question of a chat, or begins the answer of a base model. Here and below, empty: ask as the task does,
            whose demonstrations may show steps already.
    """

    kind: Literal["cot"] = "cot"
    instruction: str = STEP_BY_STEP
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count | None = None


@config
class SelfConsistency:
    """Draw n chains of thought; the final answer that most of them arrive at. Wang et al. 2022, arXiv:2203.11171."""

    kind: Literal["self-consistency"] = "self-consistency"
    n: Count = 8
    temperature: Share = 0.7
    instruction: str = STEP_BY_STEP
    max_tokens: Count | None = None


@config
class BestOfN:
    """Draw n answers and keep the best by a score. Cobbe et al. 2021, arXiv:2110.14168.

    Attributes:
        by: likelihood (mean log-probability of a token), equations (the share of written equations that hold), verifier (the task's
            own check, which knows the right answer: the most that choosing among n can gain), reward (a reward model).
        reward: its folder.
    """

    kind: Literal["best-of-n"] = "best-of-n"
    n: Count = 8
    by: By = "likelihood"
    reward: str = ""
    temperature: Share = 0.7
    instruction: str = STEP_BY_STEP
    max_tokens: Count | None = None


@config
class Beam:
    """Build an answer step by step: keep `width` beginnings, draw `expand` next steps of each, keep the best by a score of steps.

    Snell et al. 2024, arXiv:2408.03314, section 5; a process reward model is Lightman et al. 2023, arXiv:2305.20050.

    Attributes:
        by, reward: as of best-of-n; verifiers of whole answers do not judge steps.
        delimiter: ends a step. max_tokens: of one step.
    """

    kind: Literal["beam"] = "beam"
    width: Count = 2
    expand: Count = 4
    by: Literal["likelihood", "equations", "reward"] = "equations"
    reward: str = ""
    delimiter: Annotated[str, Field(min_length=1)] = "\n"
    steps: Count = 16
    temperature: Share = 0.7
    instruction: str = STEP_BY_STEP
    max_tokens: Count = 128


@config
class Tree:
    """Tree of thought: propose next thoughts, judge them, search. Yao et al. 2023, arXiv:2305.10601.

    Attributes:
        search: bfs keeps the `width` best thoughts of each depth; dfs follows the best first and goes back from what has no future.
        game: thoughts (free steps of any task) or make-number (four numbers, make 24).
        samples: texts of proposals drawn for a thought. votes: judgements drawn for it.
        evaluator: model (sure, likely, impossible, as the model says) or exact (the game's own check, for games that have one).
        threshold: dfs leaves thoughts whose value is below it: sure counts 20, likely 1, impossible 0.001; exact gives 1 or 0.
        visits: thoughts that are looked at, at most.
        propose, evaluate: how to ask, with {{ question }}, {{ state }} and the row's fields; empty: the game's own words.
    """

    kind: Literal["tree"] = "tree"
    search: Literal["bfs", "dfs"] = "bfs"
    game: Literal["thoughts", "make-number"] = "thoughts"
    width: Count = 5
    samples: Count = 1
    votes: Count = 3
    depth: Count = 8
    evaluator: Literal["model", "exact"] = "model"
    threshold: float = 0.5
    visits: Count = 64
    propose: str = ""
    evaluate: str = ""
    temperature: Share = 0.7
    max_tokens: Count = 128


@config
class BudgetForcing:
    """Hold the thinking of a reasoning model between a least and a most: at the most it is ended, before the least "Wait" follows its end.

    Muennighoff et al. 2025 (s1), arXiv:2501.19393.

    Attributes:
        effort: the most by name (`EFFORTS`). max_thinking: the most in tokens instead. min_thinking: the least.
        wait: what is written where thinking ended too early. waits: how often at most.
        max_tokens: of the answer behind the thinking.
    """

    kind: Literal["budget-forcing"] = "budget-forcing"
    effort: Effort = "medium"
    max_thinking: Annotated[int, Field(ge=0)] | None = None
    min_thinking: Annotated[int, Field(ge=0)] = 0
    wait: Annotated[str, Field(min_length=1)] = "Wait"
    waits: Annotated[int, Field(ge=0)] = 4
    instruction: str = ""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count | None = None

    @property
    def budget(self) -> int:
        """Tokens of thinking at most."""
        return EFFORTS[self.effort] if self.max_thinking is None else self.max_thinking

    def __post_init__(self) -> None:
        if self.min_thinking > self.budget:
            raise OrreryError(
                f"thinking is to have at least {self.min_thinking} tokens and at most {self.budget}; raise max_thinking"
            )


@config
class SelfRefine:
    """Draft, criticise, revise, until the critic is content. Madaan et al. 2023, arXiv:2303.17651.

    Attributes:
        critic: model, or equations (a calculator that names the first written equation that is false).
        critique, revise: what is said to ask for each. accept: words of the critic that end it.
        rounds: revisions at most.
    """

    kind: Literal["self-refine"] = "self-refine"
    critic: Literal["model", "equations"] = "model"
    rounds: Count = 2
    critique: str = "Check the answer above step by step and say what is wrong. If all of it is right, write: It is correct."
    revise: str = "Now write the whole answer again without these errors."
    accept: Annotated[str, Field(min_length=1)] = "it is correct"
    instruction: str = STEP_BY_STEP
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count | None = None


@config
class ProgramAided:
    """The model writes a Python program, the sandbox runs it, what it prints is the answer. Gao et al. 2022 (PAL), arXiv:2211.10435."""

    kind: Literal["program-aided"] = "program-aided"
    instruction: str = "Write a short Python program that prints the answer, in one block of code."
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_tokens: Count | None = None


Strategy = Annotated[
    Direct
    | ChainOfThought
    | SelfConsistency
    | BestOfN
    | Beam
    | Tree
    | BudgetForcing
    | SelfRefine
    | ProgramAided,
    Field(discriminator="kind"),
]
KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(get_args(Strategy)[0])}


def parse(text: str) -> Strategy:
    """A strategy as the command line writes it: `kind`, or `kind:name=value,name=value`.

    Raises:
        OrreryError: no such strategy or setting; names the nearest.
    """
    kind, _, settings = text.strip().partition(":")
    told: dict[str, Any] = {"kind": kind.strip()}
    for part in filter(None, (part.strip() for part in settings.split(","))):
        name, sign, value = part.partition("=")
        if not sign:
            raise OrreryError(f"the strategy '{text}': write settings as name=value, for example {kind}:n=8")
        try:
            told[name.strip()] = parse_yaml(value)
        except YamlFault:
            told[name.strip()] = value  # a template such as {{ state }} is a text
    return resolve(Strategy, told, where=f"the strategy '{text}'")


def label(strategy: Strategy) -> str:
    """What a strategy is called: its kind, n, and what differs from the defaults; long texts by six digits of their hash."""
    plain, usual = to_dict(strategy), to_dict(type(strategy)())
    changed = {name: value for name, value in plain.items() if value != usual[name] or name == "n"}
    told = [f"{name}={_short(value)}" for name, value in changed.items()]
    return strategy.kind + (":" + ",".join(told) if told else "")


def slug(strategy: Strategy) -> str:
    """The label as part of a folder's name."""
    return re.sub(r"[^\w.=,-]+", "-", label(strategy))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 and "\n" not in text else digest(text, 6)


def settings_of(kind: type[Any]) -> dict[str, Any]:
    """The settings of a kind of strategy and their defaults."""
    return {field.name: field.default for field in dataclasses.fields(kind) if field.name != "kind"}
