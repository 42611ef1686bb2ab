"""The schema of the stage that lets a model make data."""

from __future__ import annotations

from typing import ClassVar, Literal

from orrery.cli.pipeline.made import made_by
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.tune.format_name import FormatName
from orrery.tune.selfdata.config import SampleConfig
from orrery.tune.selfdata.constitutional import Constitutional


@config
class SampleStage(SampleConfig):
    """Let a finished model make rows that later stages learn from (see `tune.selfdata.config`): a set of a `tune` stage names this one
    by `stage:` and learns its examples, a set of a `prefer` or `reward` stage its pairs.

    Attributes:
        base: who speaks: an earlier stage, or any model. judge: who prefers, for the method `constitution`; empty: who speaks.
        reward_model: an earlier stage of the kind `reward`, or its folder, where the rewards name a learned one.
        data_root: where the paths of problems, prompts and seeds begin.
        chat_template: "auto" (the model's own; a model without one reads plain text), a name, a .jinja file, or "none".
        system: a system message in front of every prompt.
    """

    kind: Literal["sample"] = "sample"
    name: str = "sample"
    base: str = "sft"
    judge: str = ""
    reward_model: str = ""
    data_root: str = ""
    chat_template: FormatName = "auto"
    system: str = ""

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        others = {"judge": self.judge, "reward": self.reward_model}
        return {
            "model": self.base,
            **{role: name for role, name in others.items() if name},
            **made_by(prompts=self.prompts),
        }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learned != bool(self.reward_model):
            raise OrreryError(
                "a learned reward and a reward_model go together: name the stage or folder of the reward model, and "
                "{kind: learned} among method.rewards"
            )
        if self.judge and not isinstance(self.method, Constitutional):
            raise OrreryError("only the method 'constitution' asks a judge; leave `judge` out")
