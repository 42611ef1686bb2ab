"""One model on several processes: what `generate` and `serve` do differently under torchrun.

    torchrun --nproc-per-node 2 -m orrery.cli serve MODEL

Every rank opens the model and keeps its slices. The first one talks; the others compute along.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine
    from orrery.serve.lm import LM


def first_rank() -> bool:
    """Whether this process talks to the user: it does unless torchrun started another one before it."""
    return os.environ.get("RANK", "0") == "0"


def load(model: str | Path) -> LM:
    """`orrery.load`; under torchrun with several processes, this rank's slices of it, with float weights."""
    import orrery

    if os.environ.get("WORLD_SIZE", "1") == "1":
        return orrery.load(model)
    from orrery.model.tensor_parallel import Ranks, parallelise
    from orrery.serve.lm import LM

    lm = LM.load(model, dequantise=True)
    parallelise(lm.model, Ranks.join())
    if not first_rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for as long as the process lives)
    return lm


def shared(engine: Engine) -> Engine:
    """The engine to serve with; where the model is divided, it tells the other ranks what it does, and there this never returns.

    Raises:
        SystemExit: on another rank than the first, when that one has ended.
    """
    import atexit
    import signal

    from orrery.model.tensor_parallel import ranks_of

    ranks = ranks_of(engine.lm.model)
    if ranks is None:
        return engine
    from orrery.serve.cluster.lockstep import Leader, follow

    if ranks.rank:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)  # it ends with the first rank, which lets requests finish
        follow(engine)
        raise SystemExit(0)
    leader = Leader(engine, ranks)
    atexit.register(leader.end)
    return cast("Engine", leader)
