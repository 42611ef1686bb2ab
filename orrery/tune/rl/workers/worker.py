"""One who answers elsewhere: a copy of the model with its own engine, which takes the weights it is told to answer with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.train.loop import reproducible
from orrery.train.state import load_model_tensors, model_tensors
from orrery.tune.rl.answering import Here
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.trajectory import Trajectory
from orrery.tune.rl.workers.shares import Share

CRITIC = "critic."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """All that learns, but the critic, which no answer needs; `version` counts the changes since the run was opened."""

    version: int
    tensors: dict[str, Tensor]

    @staticmethod
    def of(model: Decoder, version: int) -> Weights:
        """As they are now. They are the model's own: make bytes of them before it changes."""
        found = model_tensors(model).items()
        return Weights(
            version=version,
            tensors={name: tensor.cpu() for name, tensor in found if not name.startswith(CRITIC)},
        )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a worker is made of: the speaker with the model that weights are put into, and the run's settings."""

    lm: LM
    cfg: RlConfig
    system: str
    virtual: int
    deterministic: bool


class Worker:
    """It keeps nothing between two shares but the weights, by their version."""

    def __init__(self, setting: Setting) -> None:
        if setting.cfg.cluster.gpus:
            setting.lm.model.to("cuda")
        self.model, self.deterministic, self.version = setting.lm.model, setting.deterministic, -1
        self.here = Here.of(setting.cfg, setting.lm, system=setting.system, virtual=setting.virtual)

    def answer(self, share: Share, version: int, weights: Callable[[], Weights]) -> list[Trajectory]:
        """The episodes of a share, by weights of a version; `weights` gives those, and is asked only where others are held."""
        if self.version != version:
            new = weights()
            if new.version != version:
                raise OrreryError(f"asked for answers by weights {version}, and given weights {new.version}")
            load_model_tensors(self.model, new.tensors)
            self.here.weights_changed()
            self.version = version
        with reproducible() if self.deterministic else nullcontext():
            return share.by(self.here)
