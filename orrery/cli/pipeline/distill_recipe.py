"""The schema of the stage of distillation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orrery.cli.pipeline.made import made_by
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.adapters.config import AdapterConfig
from orrery.model.config import DecoderConfig
from orrery.train.config import TrainConfig
from orrery.train.optim.config import AdamW
from orrery.tune.dataset import SetConfig
from orrery.tune.distill.config import ForwardKl, Mode, Sampled, Share
from orrery.tune.examples import Learn
from orrery.tune.format_name import FormatName
from orrery.tune.loader import ExampleLoaderConfig


@config
class DistillStage:
    """Let a student learn what a teacher would say: at every token of given answers, of its own, or of the teacher's.

    Attributes:
        base: the student: an earlier stage, or any model; or
        model: the shape of one that begins from nothing, with the teacher's tokenizer and chat format (its vocabulary is the tokenizer's).
        teacher: an earlier stage, or any model of the same tokenizer.
        mode: the divergence (see `tune.distill.config`): forward-kl, reverse-kl or jsd.
        hard: the share of the cross-entropy with the answers themselves; 1 asks the teacher for no distribution.
        on_policy: micro-batches that the student answers. sequence_level: micro-batches that the teacher answers.
        data, data_root, heldout, split_seed, chat_template, system, learn, adapter, epochs, validation_tokens, sample_tokens: as of a
            tuning stage.
    """

    kind: Literal["distill"] = "distill"
    name: str = "distill"
    base: str = ""
    model: DecoderConfig | None = None
    teacher: str
    mode: Mode = ForwardKl()
    hard: Share = 0.0
    on_policy: Sampled | None = None
    sequence_level: Sampled | None = None
    data: Annotated[tuple[SetConfig, ...], Field(min_length=1)]
    data_root: str = ""
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    split_seed: int = 0
    chat_template: FormatName = "auto"
    system: str = ""
    learn: Learn = "assistant"
    adapter: AdapterConfig | None = None
    loader: ExampleLoaderConfig = ExampleLoaderConfig()
    loop: TrainConfig = TrainConfig(minutes=4.0, optimizer=AdamW(lr=2e-4, weight_decay=0.0))
    epochs: Annotated[float, Field(gt=0)] | None = None
    validation_tokens: Annotated[int, Field(ge=1)] = 8_000
    sample_tokens: Annotated[int, Field(ge=1)] = 64

    reads_source: ClassVar[bool] = False

    def inputs(self) -> dict[str, str]:
        student = {"model": self.base} if self.base else {}
        return {**student, "teacher": self.teacher, **made_by(data=self.data)}

    def __post_init__(self) -> None:
        if bool(self.base) == (self.model is not None):
            raise OrreryError(
                "a student is either a model there is ('base') or a shape to begin from nothing ('model'); give one of them"
            )
        if self.model is not None and self.adapter is not None:
            raise OrreryError(
                "a student that begins from nothing has all its weights to learn; leave the adapter out"
            )
