"""When to stop."""

from __future__ import annotations

import json
import math

from orrery.train.early_stop import EarlyStop, EarlyStopper


def run(values: list[float], **options: float) -> int | None:
    """The evaluation (from 1) after which training stops."""
    stop = EarlyStopper(EarlyStop(**options))  # type: ignore[arg-type]
    return next((i for i, value in enumerate(values, start=1) if stop.update(value)), None)


def test_stops_after_patience_evaluations_without_improvement() -> None:
    assert run([3, 2, 2.5, 2.4, 2.3], patience=3) == 5
    assert run([3, 2, 2.5, 1.9, 2.3, 2.2], patience=3) is None


def test_an_improvement_must_exceed_min_delta() -> None:
    assert run([3, 2.95, 2.9, 2.85], patience=2, min_delta=0.2) == 3
    assert run([3, 2.95, 2.9, 2.7], patience=3, min_delta=0.2) is None


def test_nan_is_no_improvement_and_never_the_best() -> None:
    assert run([math.nan, math.nan], patience=2) == 2
    stop = EarlyStopper(EarlyStop(patience=5))
    for value in (2.0, math.nan, 1.0):
        stop.update(value)
    assert stop.best == 1.0 and stop.since_best == 0


def test_state_goes_on() -> None:
    stop = EarlyStopper(EarlyStop(patience=2))
    stop.update(1.0)
    stop.update(2.0)
    again = EarlyStopper(stop.cfg, **json.loads(json.dumps(stop.state())))
    assert again.update(2.0)
