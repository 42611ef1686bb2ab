"""Learning-rate schedules: the multiplier in [0, 1] as a pure function of (schedule, step, total).

    warmup       m(s) = (s + 1) / W                       for s < W
    cosine       m(s) = f + (1 - f) (1 + cos(pi p)) / 2   p = (s - W) / (total - W)
    linear       m(s) = f + (1 - f) (1 - p)
    wsd          1 until total - D, then down to f, linearly or as 1 - sqrt(q), q = (s - total + D) / D
    restarts     cosine within cycles of length C, C g, C g^2, ...
    step         factor^(milestones passed)
    inverse-sqrt sqrt(k / (s - W + k))

Steps count from 0; the floor f is reached at s = total, one past the last step, so that no step is spent at
rate 0.
Sources: SGDR (Loshchilov & Hutter 2017, eq. 5), WSD (Hu et al. 2024, MiniCPM, arXiv:2404.06395), the 1 - sqrt
decay (Haegele et al. 2024, arXiv:2405.18392), inverse square root (Vaswani et al. 2017, section 5.3).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError

Span = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]
"""A length in training: an integer is a number of steps, a float a share of the run (100, or 0.05)."""
Share = Annotated[float, Field(ge=0, le=1)]


@config
class Constant:
    """Full rate after the warmup."""

    kind: Literal["constant"] = "constant"
    warmup: Span = 0


@config
class Linear:
    """Straight line from the peak to `floor` (a share of the peak)."""

    kind: Literal["linear"] = "linear"
    warmup: Span = 0
    floor: Share = 0.0


@config
class Cosine:
    """Half a cosine from the peak to `floor`."""

    kind: Literal["cosine"] = "cosine"
    warmup: Span = 0
    floor: Share = 0.0


@config
class WSD:
    """Warmup, stable, decay: full rate until the last `decay` of the run."""

    kind: Literal["wsd"] = "wsd"
    warmup: Span = 0
    decay: Span = 0.2
    shape: Literal["linear", "1-sqrt"] = "linear"
    floor: Share = 0.0


@config
class Restarts:
    """Cosine cycles, each `growth` times as long as the last (SGDR)."""

    kind: Literal["restarts"] = "restarts"
    warmup: Span = 0
    cycle: Span = 0.25
    growth: Annotated[float, Field(ge=1)] = 1.0
    floor: Share = 0.0


@config
class Step:
    """Multiplied by `factor` at each milestone."""

    kind: Literal["step"] = "step"
    warmup: Span = 0
    milestones: tuple[Span, ...] = (0.8, 0.9)
    factor: Share = 0.316


@config
class InverseSqrt:
    """Falls as 1 / sqrt(step); `timescale` is by default the warmup, which makes it Vaswani's schedule."""

    kind: Literal["inverse-sqrt"] = "inverse-sqrt"
    warmup: Span = 0.02
    timescale: Span | None = None


Schedule = Annotated[
    Constant | Linear | Cosine | WSD | Restarts | Step | InverseSqrt,
    Field(discriminator="kind"),
]


def lr_at(schedule: Schedule, step: int, total: int) -> float:
    """What to multiply the peak learning rate with at `step` (from 0) of `total`.

    Raises:
        OrreryError: the warmup and the decay are together longer than the run.
    """
    warmup = steps_of(schedule.warmup, total)
    decay = steps_of(schedule.decay, total) if isinstance(schedule, WSD) else 0
    if warmup + decay > total:
        raise OrreryError(
            f"the schedule's warmup of {warmup} and decay of {decay} steps do not fit into {total} steps; "
            "write them as shares of the run (for example 0.05)"
        )
    if step < warmup:
        return (step + 1) / warmup
    after, length = step - warmup, max(1, total - warmup)
    progress = min(1.0, after / length)
    match schedule:
        case Constant():
            return 1.0
        case Linear(floor=floor):
            return floor + (1 - floor) * (1 - progress)
        case Cosine(floor=floor):
            return floor + (1 - floor) * _half_cosine(progress)
        case WSD(floor=floor, shape=shape):
            late = min(1.0, max(0.0, (step - total + decay) / max(1, decay)))
            return floor + (1 - floor) * (1 - (late if shape == "linear" else math.sqrt(late)))
        case Restarts(floor=floor, growth=growth):
            return floor + (1 - floor) * _half_cosine(
                _cycle_progress(after, steps_of(schedule.cycle, total), growth)
            )
        case Step(milestones=milestones, factor=factor):
            return factor ** sum(step >= steps_of(milestone, total) for milestone in milestones)
        case InverseSqrt(timescale=timescale):
            scale = max(1, warmup if timescale is None else steps_of(timescale, total))
            return math.sqrt(scale / (after + scale))


def steps_of(span: int | float, total: int) -> int:
    """A `Span` in steps of a run of `total`."""
    return span if isinstance(span, int) else round(span * total)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _cycle_progress(step: int, length: int, growth: float) -> float:
    """How far `step` is into its cycle, in [0, 1)."""
    start, size = 0.0, float(max(1, length))
    if growth == 1:
        return step % size / size
    while step >= start + size:
        start, size = start + size, size * growth
    return (step - start) / size
