"""Where workers are, and how long they may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orrery.kit.config import config


@config
class Cluster:
    """Attributes:
    address: of a Ray cluster ("auto", host:port); "local": processes on this machine, which end with the trainer.
    threads: of each worker, and the cores that Ray sets aside for it. gpus: likewise; a worker without one computes on its cores.
    timeout_s: a share that takes longer is taken from its worker, which is ended, and asked again of a new one.
    restarts: how often a share is asked again before the run gives up. What it had done by then is in its checkpoint.
    """

    address: str = "local"
    threads: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0.0
    timeout_s: Annotated[float, Field(gt=0)] = 3600.0
    restarts: Annotated[int, Field(ge=0)] = 3
