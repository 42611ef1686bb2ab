"""Everything that a step reads and changes, and how it goes into a checkpoint and comes back bit for bit.

The data cursor is the number of steps done; generators are keyed by it. What has to be kept is therefore weights, moments,
averages, the loss scale, the windows of the monitors, the plan, and the counts.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import orrery
from orrery.kit.artifact import environment
from orrery.kit.config import to_dict
from orrery.kit.errors import OrreryError
from orrery.model.decoder import Decoder
from orrery.train.budget import Plan
from orrery.train.checkpoint import Checkpoint, exact_float
from orrery.train.config import TrainConfig, changed_settings
from orrery.train.early_stop import EarlyStopper
from orrery.train.ema import EMA
from orrery.train.monitor import Skips, SpikeMonitor
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.joint import JointOptimizer
from orrery.train.precision import LossScaler, Precision

RECENT = 16


@dataclass
class TrainState:
    """One run in memory. `step` is the number of steps done, and so the number of the next one."""

    cfg: TrainConfig
    model: Decoder
    optimizer: JointOptimizer
    scaler: LossScaler
    ema: EMA | None
    skips: Skips
    stopper: EarlyStopper | None
    spikes: SpikeMonitor = field(default_factory=SpikeMonitor)
    plan: Plan = field(default_factory=Plan)
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    spiked: int = 0
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """(step, loss) of the last steps."""
    nats: float = 0.0
    predicted: float = 0.0
    """Training loss (unsmoothed) and weight since the last validation: the other side of the generalisation gap."""
    validation: float | None = None
    validated_at: int = -1
    best: float | None = None
    best_step: int = -1
    stopped: bool = False
    """Early stopping has ended the run."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What a kind of run keeps besides, JSON-able."""

    @staticmethod
    def begin(cfg: TrainConfig, model: Decoder, precision: Precision) -> TrainState:
        """The state before the first step."""
        return TrainState(
            cfg=cfg,
            model=model,
            optimizer=build_optimizer(model, cfg.optimizer),
            scaler=precision.scaler(),
            ema=EMA(model, cfg.ema) if cfg.ema is not None else None,
            skips=Skips(cfg.max_skips),
            stopper=EarlyStopper(cfg.early_stop) if cfg.early_stop is not None else None,
        )

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped or self.step >= self.plan.total_at(self.step)

    @property
    def metric(self) -> float | None:
        """What this state is worth: its validation, if it was validated and that is a number."""
        known = (
            self.validated_at == self.step and self.validation is not None and math.isfinite(self.validation)
        )
        return self.validation if known else None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """By file, then by name."""
        parts = {"model": model_tensors(self.model), "optimizer": self.optimizer.state_tensors()[0]}
        return parts | ({"ema": self.ema.state_tensors()} if self.ema else {})

    def plain(self) -> dict[str, Any]:
        """All that is no tensor, JSON-able; floats come back bit for bit."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "metric": self.metric,
            "plan": self.plan.plain(),
            "optimizer": self.optimizer.state_tensors()[1],
            "scaler": self.scaler.state(),
            "ema_updates": self.ema.updates if self.ema else None,
            "early_stop": self.stopper.state() if self.stopper else None,
            "spikes": self.spikes.state(),
            "spiked": self.spiked,
            "skips": {"total": self.skips.total, "in_a_row": self.skips.in_a_row},
            "recent": [[step, exact_float(loss)] for step, loss in self.recent],
            "gap": [self.nats, self.predicted],
            "validation": [self.validation, self.validated_at],
            "best": [self.best, self.best_step],
            "stopped": self.stopped,
            "extra": self.extra,
        }

    def load(self, checkpoint: Checkpoint) -> None:
        """Become what `tensors` and `plain` described.

        Raises:
            OrreryError: the state is not one that this run wrote.
        """
        try:
            self._load(checkpoint)
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise OrreryError(
                f"the state in '{checkpoint.path}' is not one of this run ({type(error).__name__}: {error}); "
                "remove that checkpoint, the one before it will be used"
            ) from None

    def _load(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        load_model_tensors(self.model, checkpoint.tensors["model"])
        self.optimizer.load_state_tensors(checkpoint.tensors.get("optimizer", {}), state["optimizer"])
        if self.ema:
            self.ema.load_state_tensors(checkpoint.tensors["ema"], state["ema_updates"])
        if self.stopper:
            self.stopper = EarlyStopper(self.stopper.cfg, **state["early_stop"])
        self.scaler.load(state["scaler"])
        self.spikes.load(state["spikes"])
        self.skips.total, self.skips.in_a_row = state["skips"]["total"], state["skips"]["in_a_row"]
        self.recent = deque(((step, float.fromhex(loss)) for step, loss in state["recent"]), maxlen=RECENT)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.spiked, self.stopped = state["spiked"], state["stopped"]
        self.extra = state["extra"]
        self.nats, self.predicted = state["gap"]
        self.validation, self.validated_at = state["validation"]
        self.best, self.best_step = state["best"]


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights that train and persistent buffers by name; a tensor with several names (tied weights) once, under the first.

    Frozen weights are the ones the run began with: a checkpoint of an adapter holds no copy of its model.
    """
    frozen = {n for n, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    seen: set[tuple[Any, ...]] = set()
    found = {}
    for name, tensor in model.state_dict().items():
        if name in frozen:
            continue
        place = (
            (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        )
        if place not in seen:
            seen.add(place)
            found[name] = tensor
    return found


@torch.no_grad()
def load_model_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy `tensors` into the model in place.

    Raises:
        OrreryError: names or shapes differ.
    """
    own = model_tensors(model)
    wrong = own.keys() ^ tensors.keys() | {
        k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape
    }
    if wrong:
        raise OrreryError(f"the checkpoint is of another model: {', '.join(sorted(wrong)[:5])} differ")
    for name, tensor in own.items():
        tensor.copy_(tensors[name])


def identity(cfg: TrainConfig, model: Decoder, data: str) -> dict[str, Any]:
    """What a run is made from: settings, model, data; and what it runs on, which may change the last bits."""
    return {
        "config": to_dict(cfg),
        "model": to_dict(model.cfg),
        "data": data,
        "code": code_hash(),
        "versions": environment()["versions"],
        "threads": torch.get_num_threads(),
    }


def check_identity(before: dict[str, Any], now: dict[str, Any], folder: Path) -> list[str]:
    """Refuse to go on with something else; returns what may change the last bits, to be told.

    Raises:
        OrreryError: settings, the model or the data differ; names each.
    """
    changed = changed_settings(before["config"], now["config"])
    changed += changed_settings(before["model"], now["model"], "model.")
    if before["data"] != now["data"]:
        changed.append("the training data (or the loader's settings)")
    if changed:
        raise OrreryError(
            f"'{folder}' holds a run with other settings ({'; '.join(changed)}); go back to them, or choose another folder"
        )
    return [name for name in ("code", "versions", "threads") if before[name] != now[name]]


@cache
def code_hash() -> str:
    """SHA-256 over every source file of the package."""
    root = Path(orrery.__file__).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return total.hexdigest()
