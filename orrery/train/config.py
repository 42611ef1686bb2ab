"""Everything a training run is told, in one place; what a field does is said where it stands.

In a recipe:

    loop:
      minutes: 5
      optimizer: {kind: muon, lr: 2e-3}
      schedule: {kind: wsd, warmup: 20}

Read it as a table: every line has a default that is a reasonable choice, except how long to train.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.kit.config import config, to_dict
from orrery.kit.errors import OrreryError
from orrery.train.early_stop import EarlyStop
from orrery.train.objectives import CausalLM, Objective
from orrery.train.optim.config import AdamW, OptimizerConfig
from orrery.train.schedule import WSD, Schedule

Interval = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)]
"""How often: an integer is a number of steps, a fraction a share of the run (0.1: ten times)."""


@config
class CheckpointConfig:
    """When to save and what to keep. The end of the run and a stop by signal are always saved.

    Attributes:
        every_steps: save after so many steps; None: not by steps.
        every_seconds: save when so much time has passed; None: not by time.
        keep_last: how many of the newest to keep.
        keep_best: how many of those with the best validation to keep (each new best is saved); 0: none.
    """

    every_steps: Annotated[int, Field(ge=1)] | None = None
    every_seconds: Annotated[float, Field(gt=0)] | None = 60.0
    keep_last: Annotated[int, Field(ge=1)] = 2
    keep_best: Annotated[int, Field(ge=0)] = 1


@config
class TrainConfig:
    """One pre-training run. How many rows a step has, and in how many micro-batches, is the loader's to say.

    Attributes:
        steps: how many updates; or
        minutes: how long, validation and checkpoints included; the number of steps is fitted to the machine once.
        optimizer: the update rule with its peak learning rate.
        schedule: the learning rate over the run, as a multiple of the peak.
        objective: what is predicted from what.
        clip_norm: gradients are scaled down to at most this norm; None: not.
        clip_value: entries of gradients are clamped to this size instead; None: not.
        ema: decay of the moving average of the weights, which is then validated and kept; None: no average.
        label_smoothing: share of the target spread over the vocabulary.
        z_loss: coefficient of logsumexp(logits)^2, which keeps logits from drifting.
        seed: of everything random in the loop (dropout, masking); the data has its own.
        precision: "auto" is bf16 where the hardware does it well, else fp32.
        compile: torch.compile for the blocks; needs a C++ compiler, costs half a minute, gains some per cent.
        activation_checkpointing: recompute each block in the backward pass: less memory, a third more work, same bits.
        deterministic: only kernels that give the same bits every time (what exact resuming rests on).
        checkpoint: when to save and what to keep.
        validate_every: how often the validation function is called; always at the end too. None: never.
        sample_every: how often a sample is written to samples.jsonl, likewise.
        log_every: a line of metrics.jsonl every so many steps.
        early_stop: stop when validation no longer gets better and go back to the best; None: do not.
        max_skips: steps in a row without a finite gradient before the run ends with an error.
        track: project name for trackio's local web view (extra `track`); None: metrics.jsonl alone.
    """

    steps: Annotated[int, Field(ge=1)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    optimizer: OptimizerConfig = AdamW()
    schedule: Schedule = WSD(warmup=0.02)
    objective: Objective = CausalLM()
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    clip_value: Annotated[float, Field(gt=0)] | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    deterministic: bool = True
    checkpoint: CheckpointConfig = CheckpointConfig()
    validate_every: Interval | None = 0.1
    sample_every: Interval | None = 0.1
    log_every: Annotated[int, Field(ge=1)] = 1
    early_stop: EarlyStop | None = None
    max_skips: Annotated[int, Field(ge=1)] = 10
    track: str | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise OrreryError("training needs either 'steps' or 'minutes', and not both")
        if self.clip_norm is not None and self.clip_value is not None:
            raise OrreryError(
                "'clip_norm' and 'clip_value' are two ways to clip gradients; set the other to null"
            )
        if self.early_stop is not None and not (self.validate_every and self.checkpoint.keep_best):
            raise OrreryError(
                "'early_stop' goes back to the best checkpoint: it needs 'validate_every' and checkpoint.keep_best of at least 1"
            )


MAY_CHANGE = ("log_every", "sample_every", "checkpoint", "track", "activation_checkpointing", "max_skips")
"""Settings that change no bit of the weights: a run may be resumed with others."""


def changed_settings(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as "name: old -> new", leaving out those that may."""
    found = []
    for name in sorted({*before, *now}):
        if not prefix and name in MAY_CHANGE:
            continue
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changed_settings(old, new, f"{prefix}{name}.")
        elif to_dict(old) != to_dict(new):
            found.append(f"{prefix}{name}: {old} -> {new}")
    return found
