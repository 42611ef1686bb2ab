"""How many steps a run takes: given, or fitted to the minutes a person has.

    total = the most steps for which   steps * s + validations * v + samples * a + checkpoints * c  <=  time left

where the costs are measured by a short probe before the first step. The number is written to `run.json` at once, so a
resumed run has the same one. If the machine slows down, the total may be shortened, but only while the learning rate is in
its constant phase, so that no step already taken would have had another rate. Every such change is an entry of the plan that
says from which step it holds: with the plan recorded, time has no say in what any step computes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write
from orrery.train.config import TrainConfig
from orrery.train.schedule import WSD, Constant, Schedule, lr_at

RUN = "run.json"
RESERVE_ADAPTIVE, RESERVE_FIXED, RESERVE_LATE = 0.03, 0.07, 0.01
"""Share of the time kept back: at the start, less where a slower machine can still be answered by a shorter run; and then."""


@dataclass(frozen=True)
class Costs:
    """Seconds that each thing takes on this machine, as measured."""

    step: float
    validation: float = 0.0
    sample: float = 0.0
    checkpoint: float = 0.0


@dataclass(frozen=True)
class Entry:
    """From step `from_step` on, the run has `total` steps."""

    from_step: int
    total: int
    why: str


@dataclass
class Plan:
    """The totals that were in force, oldest first."""

    entries: list[Entry] = field(default_factory=list)

    def total_at(self, step: int) -> int:
        """The total in force when `step` is taken."""
        return self.entry_at(step).total

    def entry_at(self, step: int) -> Entry:
        """The entry in force when `step` is taken."""
        return next(entry for entry in reversed(self.entries) if entry.from_step <= step)

    @property
    def newest(self) -> Entry:
        """The last entry."""
        return self.entries[-1]

    def shorten(self, step: int, total: int, why: str) -> None:
        """From `step` on the run has `total` steps."""
        if step <= self.newest.from_step or total >= self.newest.total:
            raise AssertionError("a plan only grows forward and only gets shorter")
        self.entries.append(Entry(step, total, why))

    def save(self, folder: Path, **notes: Any) -> None:
        """Write `run.json` atomically."""
        data = {"format": 1, "plan": [asdict(entry) for entry in self.entries], **notes}
        atomic_write(folder / RUN, json.dumps(data, indent=2) + "\n")

    def plain(self) -> list[dict[str, Any]]:
        """JSON-able."""
        return [asdict(entry) for entry in self.entries]


def read_plan(folder: Path) -> tuple[Plan, dict[str, Any]] | None:
    """The plan recorded in `folder` with its notes; None if there is none.

    Raises:
        OrreryError: the file is damaged.
    """
    path = folder / RUN
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Plan([Entry(**entry) for entry in data.pop("plan")]), data
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise OrreryError(f"'{path}' cannot be read; remove the folder '{folder}' to start again") from None


def every(interval: int | float | None, total: int) -> int | None:
    """An interval in steps: an integer as it is, a fraction as that share of the run."""
    if interval is None or isinstance(interval, int):
        return interval
    return max(1, round(interval * total))


def due(interval: int | float | None, done: int, total: int) -> bool:
    """Whether something that happens at every `interval` (and at the end) happens after `done` steps."""
    steps = every(interval, total)
    return steps is not None and (done % steps == 0 or done == total)


def times(interval: int | float | None, total: int, *, after: int = 0) -> int:
    """How often it happens after `after` steps, up to `total`."""
    steps = every(interval, total)
    if steps is None or after >= total:
        return 0
    return total // steps - after // steps + (total % steps != 0)


def seconds_for(cfg: TrainConfig, costs: Costs, total: int, *, after: int = 0) -> float:
    """Time that steps `after` to `total` take with all that goes with them."""
    validations = times(cfg.validate_every, total, after=after)
    pure = (
        (total - after) * costs.step
        + validations * costs.validation
        + times(cfg.sample_every, total, after=after) * costs.sample
    )
    checkpoint = cfg.checkpoint
    saves = 1.0 + times(checkpoint.every_steps, total, after=after)
    saves += validations if checkpoint.keep_best and costs.validation else 0
    saves += pure / checkpoint.every_seconds if checkpoint.every_seconds else 0
    return pure + saves * costs.checkpoint


def fit(cfg: TrainConfig, costs: Costs, seconds: float, *, after: int = 0) -> int:
    """The largest total whose steps from `after` on fit into `seconds`; at least `after` + 1."""
    low, high = after + 1, after + 1 + max(1, int(seconds / max(costs.step, 1e-6)))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high) if seconds_for(cfg, costs, middle, after=after) <= seconds else (low, middle - 1)
        )
    return low


def first_total(cfg: TrainConfig, costs: Costs, seconds_left: float) -> int:
    """The total of a run of `cfg.minutes`, of which `seconds_left` are left after the probe."""
    assert cfg.minutes is not None
    reserve = RESERVE_ADAPTIVE if isinstance(cfg.schedule, WSD | Constant) else RESERVE_FIXED
    total = fit(cfg, costs, seconds_left - reserve * 60 * cfg.minutes)
    lr_at(cfg.schedule, 0, total)  # a warmup that does not fit is said now, not after an hour
    return total


def shorter_total(
    cfg: TrainConfig, costs: Costs, *, step: int, total: int, seconds_left: float
) -> int | None:
    """A smaller total if the time asks for one and this is the last moment to choose it; else None.

    Waiting as long as can be makes the estimate as good as can be: the moment has come when, with the total the time asks for,
    the decay would begin at `step` (the next step to take).
    """
    if not in_constant_phase(cfg.schedule, step, total):
        return None
    wanted = fit(cfg, costs, seconds_left, after=step)
    if wanted >= total or in_constant_phase(cfg.schedule, step + 1, wanted):
        return None
    low, high = wanted, total  # the smallest total from `wanted` on that leaves the rate at `step` what it is
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if in_constant_phase(cfg.schedule, step, middle) else (middle + 1, high)
    return low if low < total else None


def in_constant_phase(schedule: Schedule, step: int, total: int) -> bool:
    """Whether the schedule is one with a constant phase, and `step` of `total` is in it (after the warmup)."""
    if not isinstance(schedule, WSD | Constant) or step >= total:
        return False
    try:
        return lr_at(schedule, step, total) == 1.0
    except OrreryError:
        return False
