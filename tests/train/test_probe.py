"""How long the trial before a timed run may take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from orrery.kit.log import Silent
from orrery.train import probe
from orrery.train.config import TrainConfig
from orrery.train.precision import choose_precision


@pytest.mark.parametrize(
    ("seconds", "minutes", "steps"),
    [(0.1, 4, 8), (2, 4, 3), (55, 22, 2), (55, 240, 6), (900, 1, 2)],
    ids=["all", "2% of the time", "few", "a night", "two at least"],
)
def test_a_trial_of_long_steps_is_short(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, minutes: float, steps: int
) -> None:
    clock, taken = SimpleNamespace(now=0.0), []

    def work(*args: Any) -> None:
        taken.append(1)
        clock.now += seconds

    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(probe, "draw", lambda *args: None)
    monkeypatch.setattr(probe, "forward_backward", work)
    monkeypatch.setattr(probe, "update", lambda *args, **more: None)
    model = nn.Linear(2, 2)
    cfg = TrainConfig(minutes=minutes, validate_every=None, sample_every=None)
    run = SimpleNamespace(
        setup=SimpleNamespace(model=model, cfg=cfg, precision=choose_precision("fp32", torch.device("cpu"))),
        state=SimpleNamespace(ema=None, tensors=dict),
        saver=SimpleNamespace(checkpoints=SimpleNamespace(folder=tmp_path)),
        validation=None,
        sample=None,
        progress=Silent(),
    )
    before = model.weight.detach().clone()
    found = probe.measure_costs(run)  # type: ignore[arg-type]
    assert len(taken) == steps and found.step == pytest.approx(seconds)
    assert torch.equal(model.weight, before) and not list(tmp_path.iterdir())
