"""Settings of making data: a method, what it asks, how the model speaks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.dataset import SetConfig
from orrery.tune.rl.problems import ProblemSet
from orrery.tune.rl.rewards import LearnedReward
from orrery.tune.selfdata.constitutional import Constitutional
from orrery.tune.selfdata.majority import SelfConsistency
from orrery.tune.selfdata.rejection import Best
from orrery.tune.selfdata.self_critique import Critique
from orrery.tune.selfdata.self_instruct.loop import SelfInstruct
from orrery.tune.selfdata.speaker import Speech
from orrery.tune.selfdata.star import Star

Method = Annotated[
    Best | Star | SelfConsistency | SelfInstruct | Critique | Constitutional, Field(discriminator="kind")
]


@config
class SampleConfig:
    """What is made, and of what.

    Attributes:
        problems: problems that can be checked. prompts: sets of examples whose questions are asked and whose answers are not read.
        limit: at most so many of both together, chosen by hash.
        heldout: problems kept apart, as an `rl` stage of this seed keeps them. speech: how the model answers.
        round: the number of this round of several: another round of the same model says something else.
        seed: of every choice and draw.
    """

    method: Method
    problems: tuple[ProblemSet, ...] = ()
    prompts: tuple[SetConfig, ...] = ()
    limit: Annotated[int, Field(ge=1)] | None = None
    heldout: Annotated[int, Field(ge=0)] = 0
    speech: Speech = Speech()
    round: Annotated[int, Field(ge=0)] = 0
    seed: int = 0

    def __post_init__(self) -> None:
        asks = bool(self.problems or self.prompts)
        if isinstance(self.method, SelfInstruct) and asks:
            raise OrreryError(
                "self-instruct begins with seed tasks (method.seeds) and asks no problems or prompts"
            )
        if not isinstance(self.method, SelfInstruct) and not asks:
            raise OrreryError("there is nothing to ask; give problems or prompts")

    @property
    def learned(self) -> bool:
        """Whether a reward model is needed."""
        return isinstance(self.method, Best) and any(
            isinstance(term, LearnedReward) for term in self.method.rewards
        )
