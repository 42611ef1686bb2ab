"""Where an answer meets the world: an environment is reset with a problem, and each thing said to it is a step.

    messages = world.reset(problem)                       what the model reads first
    step = world.step(text)                               a reward, what it sees next, whether it is over

single      one answer, one verdict (reinforcement learning from verifiable rewards)
attempts    a wrong answer may be mended: the model is told that it was wrong, and each turn has a reward of its own
python      programs the model writes are run in the sandbox, and it reads what they print, until it answers
calculator  the same with expressions between << and >> (Cobbe et al. 2021, arXiv:2110.14168, appendix C)

An environment lives for one episode and sees texts only. Rewards are of turns; how they are shared out over them is `credit`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from orrery.evaluate.generators.evaluator import evaluate
from orrery.evaluate.scorers.base import open_sandbox
from orrery.evaluate.scorers.code import code_block
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.sandbox import Limits, Sandbox
from orrery.tune.rl.problems import Problem

Message = Mapping[str, Any]
_CALL = re.compile(r"<<([^<>]{1,200})>>")


@dataclass(frozen=True, kw_only=True)
class Step:
    """What came of something said: its reward, what the model is shown next (None when it is over), and whether it is over."""

    reward: float
    observation: str | None = None
    done: bool = True


class Environment(Protocol):
    """One episode."""

    def reset(self, problem: Problem) -> Sequence[Message]:
        """Begin; the conversation up to where the model is to speak."""
        ...

    def step(self, text: str) -> Step:
        """Hear what the model said."""
        ...


@config
class Single:
    """The problem's scorer judges one answer."""

    kind: Literal["single"] = "single"


@config
class Attempts:
    """`turns` tries; a right answer in the first is worth 1, in each further `decay` times as much."""

    kind: Literal["attempts"] = "attempts"
    turns: Annotated[int, Field(ge=2)] = 2
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    told: str = "That is not right. Try again."


@config
class PythonTool:
    """The model may write programs in fenced blocks; each is run alone, and what it printed is shown. An answer without a block ends it.

    Attributes:
        turns: things said in all, the answer included. seconds: of each run.
        shown: characters of the output. failed: the reward of a turn whose program did not end well.
    """

    kind: Literal["python"] = "python"
    turns: Annotated[int, Field(ge=2)] = 3
    seconds: Annotated[float, Field(gt=0)] = 5.0
    shown: Annotated[int, Field(ge=1)] = 400
    failed: Annotated[float, Field(le=0)] = 0.0
    instruction: str = (
        "You may write Python in a ```python block; you will see what it prints. Then answer without a block."
    )


@config
class CalculatorTool:
    """The model may write expressions as <<17 * 23>>; the last one of what it says is worked out and shown. See `PythonTool`."""

    kind: Literal["calculator"] = "calculator"
    turns: Annotated[int, Field(ge=2)] = 3
    shown: Annotated[int, Field(ge=1)] = 60
    failed: Annotated[float, Field(le=0)] = 0.0
    instruction: str = ""


World = Annotated[Single | Attempts | PythonTool | CalculatorTool, Field(discriminator="kind")]


def turns_of(cfg: World) -> int:
    """How often the model speaks, at most."""
    return 1 if isinstance(cfg, Single) else cfg.turns


def opener(cfg: World) -> Callable[[], Environment]:
    """Makes an environment for each episode.

    Raises:
        SandboxUnavailable: programs are to be run, and nothing here can hold them.
    """
    match cfg:
        case Single():
            return SingleTurn
        case Attempts():
            return lambda: SeveralAttempts(cfg)
        case PythonTool():
            sandbox = open_sandbox()
            return lambda: WithTool(
                cfg, find=code_block, run=lambda code: printed(sandbox, code, cfg.seconds)
            )
        case CalculatorTool():
            return lambda: WithTool(cfg, find=expression, run=worked_out)


class SingleTurn:
    """See `Single`."""

    def reset(self, problem: Problem) -> Sequence[Message]:
        self.problem = problem
        return [{"role": "user", "content": problem.prompt}]

    def step(self, text: str) -> Step:
        return Step(reward=self.problem.judge(text))


class SeveralAttempts:
    """See `Attempts`."""

    def __init__(self, cfg: Attempts) -> None:
        self.cfg, self.tried = cfg, 0

    def reset(self, problem: Problem) -> Sequence[Message]:
        self.problem = problem
        return [{"role": "user", "content": problem.prompt}]

    def step(self, text: str) -> Step:
        right = self.problem.judge(text)
        self.tried += 1
        if right == 1.0 or self.tried == self.cfg.turns:
            return Step(reward=right * self.cfg.decay ** (self.tried - 1))
        return Step(reward=0.0, observation=self.cfg.told, done=False)


class WithTool:
    """See `PythonTool`. `find` reads what a tool is given out of a text, `run` gives what it shows and whether it went well. A turn that
    both calls and answers calls: what it says beside is not judged."""

    def __init__(
        self, cfg: PythonTool | CalculatorTool, *, find: Callable[[str], str | None], run: Callable[[str], tuple[str, bool]]
    ) -> None:  # fmt: skip
        self.cfg, self.find, self.run, self.said = cfg, find, run, 0

    def reset(self, problem: Problem) -> Sequence[Message]:
        self.problem = problem
        told = f"{self.cfg.instruction}\n\n" if self.cfg.instruction else ""
        return [{"role": "user", "content": told + problem.prompt}]

    def step(self, text: str) -> Step:
        self.said += 1
        call = self.find(text)
        if call is None:
            return Step(reward=self.problem.judge(text))
        if self.said == self.cfg.turns:
            return Step(reward=0.0)  # a call is no answer
        seen, well = self.run(call)
        observation = seen.strip()[: self.cfg.shown] or "(nothing was printed)"
        return Step(reward=0.0 if well else self.cfg.failed, observation=observation, done=False)


def printed(sandbox: Sandbox, code: str, seconds: float) -> tuple[str, bool]:
    """What a program prints, and how it failed if it did."""
    ran = sandbox.run(code, limits=Limits(seconds=seconds, cpu_seconds=seconds))
    return (ran.stdout, True) if ran.status == "ok" else (f"{ran.stdout}{ran.status}: {ran.detail}", False)


def expression(text: str) -> str | None:
    """What stands between the last << and >>."""
    found = _CALL.findall(text)
    return found[-1] if found else None


def worked_out(text: str) -> tuple[str, bool]:
    """The value of an expression of literals, by the evaluator of generated questions, which runs no code."""
    try:
        return str(evaluate(text)), True
    except OrreryError as error:
        return f"error: {error}", False
