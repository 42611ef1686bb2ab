"""The setting of a reward stage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orrery.cli.pipeline.made import made_by
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.adapters.config import AdapterConfig
from orrery.train.config import TrainConfig
from orrery.train.optim.config import AdamW
from orrery.tune.format_name import FormatName
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.reward.config import Level, RewardConfig, RewardLoaderConfig, SelfLabelled


@config
class RewardStage:
    """Teach a finished model to say how good an answer is (see `tune.reward`).

    Attributes:
        base, chat_template, adapter: as of a tuning stage. system: a system message for conversations without one.
        level: from pairs, a score without a zero; from outcomes, the logit of an answer being right; from steps, of each of its steps.
        data: pairs, answers with a label, or answers with labelled steps; data_root: where their paths begin; or
        labelled: answers that the base model draws itself, judged by the problems' checker.
        heldout: the part of the questions that it is measured on, by hash and `split_seed`.
        epochs: passes over the data, in place of the loop's steps or minutes.
    """

    kind: Literal["reward"] = "reward"
    name: str = "reward"
    base: str = "sft"
    level: Level = "pair"
    data: tuple[PreferenceSet, ...] = ()
    data_root: str = ""
    labelled: SelfLabelled | None = None
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    split_seed: int = 0
    chat_template: FormatName = "auto"
    system: str = ""
    adapter: AdapterConfig | None = None
    reward: RewardConfig = RewardConfig()
    loader: RewardLoaderConfig = RewardLoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0, optimizer=AdamW(lr=1e-4, weight_decay=0.0))
    epochs: Annotated[float, Field(gt=0)] | None = None

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        return {"model": self.base, **made_by(data=self.data)}

    def __post_init__(self) -> None:
        if bool(self.data) == (self.labelled is not None):
            raise OrreryError("a reward stage needs either 'data' or 'labelled', and not both")
        if self.labelled is not None and self.level == "pair":
            raise OrreryError(
                "what a model draws itself is judged right or wrong: set level to outcome or process"
            )
