"""The schema of the stage of preference learning."""

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
from orrery.tune.preference.config import Dpo, Online, PairLoaderConfig, PreferenceConfig, PreferenceLoss
from orrery.tune.preference.pairs import PreferenceSet


@config
class PreferStage:
    """Teach a finished model which answers are better: by pairs, rankings and thumbs from files, or by its own answers, judged.

    Attributes:
        base, data_root, chat_template, system, adapter, epochs, sample_tokens: as of a tuning stage.
        data: what was compared. Pairs are learned from as they are, and by kto as thumbs; rankings give pairs, and thumbs do where
            one prompt has both kinds.
        loss: dpo, robust, ipo, hinge, apo, kto, orpo, simpo or cpo with its settings (`tune.preference.config`).
        online: let the model answer `online.problems` itself and learn the best answers against the worst; `data` is then only what
            is held out of it and measured. It needs loop.steps.
        heldout: the part of the questions of each set that is held out, by hash and `split_seed`.
    """

    kind: Literal["prefer"] = "prefer"
    name: str = "prefer"
    base: str = "tune"
    data: tuple[PreferenceSet, ...] = ()
    data_root: str = ""
    loss: PreferenceLoss = Dpo()
    online: Online | None = None
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    split_seed: int = 0
    chat_template: FormatName = "auto"
    system: str = ""
    adapter: AdapterConfig | None = None
    loader: PairLoaderConfig = PairLoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0, optimizer=AdamW(lr=2e-5, weight_decay=0.0))
    epochs: Annotated[float, Field(gt=0)] | None = None
    sample_tokens: Annotated[int, Field(ge=1)] = 64

    reads_source: ClassVar[bool] = False

    @property
    def preference(self) -> PreferenceConfig:
        """The run's own settings."""
        return PreferenceConfig(loss=self.loss, loader=self.loader, online=self.online)

    def inputs(self) -> dict[str, str]:
        judge = self.online.reward_model if self.online is not None else ""
        return {"model": self.base, **({"reward": judge} if judge else {}), **made_by(data=self.data)}

    def __post_init__(self) -> None:
        if not self.data and self.online is None:
            raise OrreryError(
                "there is nothing to learn from; give data: sets of preferences, or online: problems to answer"
            )
        if self.online is not None and self.epochs is not None:
            raise OrreryError("online learning has no epochs; say how long by loop.steps")
        _ = self.preference  # refuses what does not go together
