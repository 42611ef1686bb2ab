"""A short trial before a run of so many minutes: how long a step takes here, and all that goes with it.

Real steps on real batches, then everything is put back: weights by a copy, moments by an optimiser made anew.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from orrery.kit.files import ops
from orrery.train.budget import Costs
from orrery.train.checkpoint import write_checkpoint
from orrery.train.optim.build import build_optimizer
from orrery.train.state import load_model_tensors, model_tensors
from orrery.train.step import draw, forward_backward, update

if TYPE_CHECKING:
    from orrery.train.run import Run

STEPS, DROPPED, LEAST = 8, 2, 2
"""Steps taken; the first ones are dropped: they allocate, compile and fill caches. Of steps so long that these would take more than
`SHARE` of the run's minutes there are fewer, two at least."""
SHARE = 0.02


def measure_costs(run: Run) -> Costs:
    """Seconds for a step, a validation, a sample and a checkpoint. Leaves the run as it found it."""
    setup, state = run.setup, run.state
    before = {name: tensor.detach().clone() for name, tensor in model_tensors(setup.model).items()}
    optimizer, scaler = build_optimizer(setup.model, setup.cfg.optimizer), setup.precision.scaler()
    optimizer.set_lr(1e-3)
    times: list[float] = []
    for step in range(STEPS):
        if len(times) >= LEAST and sum(times) > SHARE * 60 * (setup.cfg.minutes or 0):
            break
        began = time.monotonic()
        batches = draw(setup, step)
        totals = forward_backward(setup, batches, step, scaler)
        update(setup, optimizer, scaler, totals, tokens=0)
        if state.ema:
            state.ema.update()
        times.append(time.monotonic() - began)
        run.progress.update(0, None, trial_step=len(times), seconds=times[-1])
    tensors = {**state.tensors(), "optimizer": optimizer.state_tensors()[0]}
    checkpoint = _timed(
        lambda: write_checkpoint(run.saver.checkpoints.folder / ".probe.partial", tensors=tensors, state={})
    )
    ops.remove(run.saver.checkpoints.folder / ".probe.partial")
    load_model_tensors(setup.model, before)
    if state.ema:
        state.ema = type(state.ema)(setup.model, state.ema.decay)
    setup.model.zero_grad(set_to_none=True)
    validation = sample = 0.0
    if run.validation is not None and setup.cfg.validate_every is not None and run.leads:
        with run.quiet("probe"):
            validation = _timed(lambda: run.validation(setup.model))
    if run.sample is not None and setup.cfg.sample_every is not None and run.leads:
        with run.quiet("probe"):
            sample = _timed(lambda: run.sample(setup.model, 0))
    return Costs(statistics.median(times[DROPPED:] or times[-1:]), validation, sample, checkpoint)


def _timed(work: object) -> float:
    began = time.monotonic()
    work()  # type: ignore[operator]
    return time.monotonic() - began
