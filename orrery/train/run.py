"""What surrounds the steps of a run: beginning or going on, writing down, validating, saving."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from orrery.data.batch import Batch
from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import sweep
from orrery.kit.log import Progress, Silent
from orrery.model.decoder import Decoder
from orrery.train.budget import RESERVE_LATE, Costs, Entry, Plan, due, read_plan, shorter_total
from orrery.train.monitor import Utilisation, matmul_peak
from orrery.train.records import Records, documents, tell
from orrery.train.saving import Saver
from orrery.train.state import TrainState, check_identity, identity
from orrery.train.step import Outcome, Setup, seed_everything
from orrery.train.tracker import trackio_tracker

PACE, LEAST_PACE, SHOWN_EVERY_S = 64, 16, 0.1

Validate = Callable[[Decoder], float | Mapping[str, float]]
"""What should fall, alone or as "validation" among further numbers for the log."""
Sample = Callable[[Decoder, int], str]


class Run:
    """One run in its folder, begun or resumed.

    Args:
        validation: model -> what should fall (nats a token, or bits a byte), on text kept from training.
        sample: (model, steps done) -> text to look at.
        bytes_per_token: of the training data, if `validation` is in bits per byte: then the gap is too.
    """

    def __init__(
        self, setup: Setup, out: Path, *, validation: Validate | None, sample: Sample | None,
        progress: Progress | None, bytes_per_token: float | None,
    ) -> None:  # fmt: skip
        self.opened = time.monotonic()
        self.setup, self.cfg, self.out = setup, setup.cfg, out
        self.validation, self.sample, self.bytes_per_token = validation, sample, bytes_per_token
        self.progress = progress or Silent()
        self.leads = setup.world.rank == 0
        self.state = TrainState.begin(setup.cfg, setup.model, setup.precision)
        self.saver = Saver(out / "checkpoints", setup.cfg.checkpoint, writes=self.leads)
        self.identity = identity(setup.cfg, setup.model, setup.loader.fingerprint)
        self.used = Utilisation(setup.model.cfg, matmul_peak(setup.device.type, setup.precision.dtype))
        self.costs = Costs(step=0.0)
        self.pace: deque[float] = deque(maxlen=PACE)
        self.resumed_from = self._resume()
        self.seconds_before = self.state.seconds
        self.shown = -math.inf
        self.steps_here, self.tokens_here, self.flops_here, self.seconds_here = 0, 0, 0.0, 0.0
        tracker = None
        if setup.cfg.track and self.leads:
            tracker = trackio_tracker(
                project=setup.cfg.track, name=out.resolve().name, config=to_dict(setup.cfg), say=tell
            )
        self.records = Records(out, step=self.state.step, writes=self.leads, tracker=tracker)
        for text in self.saver.checkpoints.found_damaged:
            say = f"{text}; going on from step {self.state.step:,}"
            self.records.event(self.state.step - 1, "damaged checkpoint", message=text, say=say)

    def _resume(self) -> int | None:
        """Load the newest good checkpoint, if any, and the recorded plan; the step it goes on from."""
        world, found = self.setup.world, None
        if self.leads:
            sweep(self.out)
            found = self.saver.newest()
        step = int(world.agree(found.state["step"] if found else -1))
        if step >= 0 and found is None:
            found = self.saver.checkpoints.load(step)
        recorded = read_plan(self.out)
        if found is None:
            if recorded and recorded[1].get("run") == self._name:
                self.state.plan = recorded[0]
            return None
        different = check_identity(found.state["identity"], self.identity, self.out)
        if different and self.leads:
            tell(
                f"since the checkpoint these have changed: {', '.join(different)}; results may differ in the last bits"
            )
        self.state.load(found)
        known: list[dict[str, Any]] = found.state["plan"]
        self.state.plan = recorded[0] if recorded else Plan([Entry(**entry) for entry in known])
        if self.state.plan.plain()[: len(known)] != known:
            raise OrreryError(
                f"'{self.out / 'run.json'}' is not what was written; remove it, the checkpoint knows the plan"
            )
        return step

    @property
    def _name(self) -> str:
        """What this run is, as a hash: a plan without a checkpoint counts only for the same run."""
        return digest([self.identity[part] for part in ("config", "model", "data")])

    def elapsed(self) -> float:
        """Seconds that the run has taken, those before the last interruption included."""
        return self.seconds_before + time.monotonic() - self.opened

    def set_plan(self, total: int, why: str, costs: Costs | None = None) -> None:
        """Fix the number of steps before the first, and write it down."""
        self.costs = costs or self.costs
        self.state.plan = Plan([Entry(0, int(self.setup.world.agree(total)), why)])
        self._save_plan()

    def replan(self) -> None:
        """Shorten a run that would not be done in its minutes, while that changes no step already taken."""
        state, plan = self.state, self.state.plan
        if (
            self.cfg.minutes is not None
            and len(self.pace) >= LEAST_PACE
            and state.step > plan.newest.from_step
        ):
            costs = replace(self.costs, step=sum(self.pace) / len(self.pace))
            left = 60 * self.cfg.minutes * (1 - RESERVE_LATE) - self.elapsed()
            wanted = shorter_total(
                self.cfg, costs, step=state.step, total=plan.newest.total, seconds_left=left
            )
            new = int(self.setup.world.agree(wanted or 0))
            if new:
                if self.leads:
                    tell(
                        f"steps take longer than planned: {new:,} instead of {plan.newest.total:,}, to end in time"
                    )
                plan.shorten(state.step, new, f"{1000 * costs.step:.1f} ms a step and {left:.0f} s left")
                self._save_plan()
        entry = plan.entry_at(state.step)
        if 0 < entry.from_step == state.step:  # whether it was made now or before an interruption
            self.records.event(state.step, "shortened", total=entry.total, why=entry.why)

    def _save_plan(self) -> None:
        if self.leads:
            self.state.plan.save(
                self.out, run=self._name, minutes=self.cfg.minutes, costs=to_dict(self.costs)
            )

    def log(
        self, step: int, batches: Sequence[Batch], outcome: Outcome, *, lr: float, seconds: float,
        more: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Count and write down a step, watch its loss, then validate, sample and save if it is time to.

        `more`: further numbers of a run that learns from what it does itself. Its loss is no measure of progress and is not watched.
        """
        state, total = self.state, self.state.plan.total_at(step)
        state.step = step + 1
        line = self._count(batches, outcome, seconds) | {"lr": lr} | dict(more or {})
        self._watch(step, batches, outcome, line, spikes=more is None)
        if self.validation is not None and due(self.cfg.validate_every, state.step, total):
            line |= self._validate()
        state.seconds = line["seconds"] = self.elapsed()
        if state.step % self.cfg.log_every == 0 or "validation" in line or state.done:
            self.records.metrics(step, line)
        if time.monotonic() - self.shown >= SHOWN_EVERY_S or state.done:
            self.shown = time.monotonic()
            self.progress.update(state.step, total, loss=line["loss"], tokens_per_s=line["tokens_per_s"])
        if self.sample is not None and self.leads and due(self.cfg.sample_every, state.step, total):
            self._sample()
        if self.saver.due(state):
            self.save()

    def _count(self, batches: Sequence[Batch], outcome: Outcome, seconds: float) -> dict[str, Any]:
        """Tokens of all ranks and FLOPs of this one; the step's means as a line of metrics."""
        tokens = int(outcome.sums["tokens"])
        flops = sum(self.used.flops(batch.lengths, int((batch.weights > 0).sum())) for batch in batches)
        self.pace.append(seconds)
        self.state.tokens += tokens
        self.steps_here += 1
        self.tokens_here += tokens
        self.flops_here += flops
        self.seconds_here += seconds
        means = {name: outcome.mean(name) for name in outcome.sums if name not in ("weight", "tokens")}
        if outcome.sums["nll"] == outcome.sums["loss"]:
            del means[
                "nll"
            ]  # the plain loss, told only where smoothing or auxiliary losses make it another number
        return {
            **means, "grad_norm": outcome.grad_norm, "tokens": self.state.tokens,
            "tokens_per_s": tokens / max(seconds, 1e-9), "mfu": self.used.of(flops, seconds),
        }  # fmt: skip

    def _watch(
        self, step: int, batches: Sequence[Batch], outcome: Outcome, line: dict[str, Any], *, spikes: bool
    ) -> None:
        """Skips and spikes, with the documents that were in the batch. Only finite losses enter statistics."""
        state, loss = self.state, outcome.mean("loss")
        if outcome.skipped:
            line["skipped"] = outcome.skipped
            self.records.event(
                step, "skipped", why=outcome.skipped, loss=str(loss), grad_norm=str(outcome.grad_norm),
                loss_scale=state.scaler.factor, documents=documents(batches),
            )  # fmt: skip
            state.skips.skip(step, outcome.skipped, harmless=outcome.overflow)
            return
        state.skips.fine()
        state.recent.append((step, loss))
        state.nats += outcome.sums["nll"]
        state.predicted += outcome.sums["weight"]
        if state.ema:
            state.ema.update()
        height = state.spikes.see(loss) if spikes else None
        if height is not None:
            state.spiked += 1
            self.records.event(
                step, "spike", loss=loss, sigmas=round(height, 2), documents=documents(batches)
            )

    def _validate(self) -> dict[str, float]:
        """Call the validation function on the (averaged) weights; note the best and the gap to the training loss."""
        assert self.validation is not None
        state, began = self.state, time.monotonic()
        more: Mapping[str, float] = {}
        with self.quiet("validation"):
            found = self.validation(self.setup.model) if self.leads else 0.0
            if isinstance(found, Mapping):
                found, more = found["validation"], found
            value = self.setup.world.agree(float(found))
        self.costs = replace(self.costs, validation=time.monotonic() - began)
        unit = 1.0 if self.bytes_per_token is None else math.log(2) * self.bytes_per_token
        trained = state.nats / max(state.predicted, 1e-9) / unit
        state.nats = state.predicted = 0.0
        state.validation, state.validated_at = value, state.step
        if math.isfinite(value) and (state.best is None or value < state.best):
            state.best, state.best_step = value, state.step
        state.stopped = state.stopper is not None and state.stopper.update(value)
        if state.stopped:
            self.records.event(state.step - 1, "stopped early", best=state.best, best_step=state.best_step)
        return {**more, "validation": value, "gap": value - trained}

    def _sample(self) -> None:
        assert self.sample is not None
        began = time.monotonic()
        with self.quiet("sample"):
            self.records.sample(self.state.step, self.sample(self.setup.model, self.state.step))
        self.costs = replace(self.costs, sample=time.monotonic() - began)

    @contextmanager
    def quiet(self, purpose: str) -> Iterator[None]:
        """The model as it will be used: averaged weights, no dropout, no gradients, its own randomness."""
        model = self.setup.model
        seed_everything(self.setup.device, self.cfg.seed, purpose, self.state.step)
        model.eval()
        with self.state.ema.swapped() if self.state.ema else nullcontext(), torch.no_grad():
            yield
        model.train()

    def save(self, *, must: bool = False) -> None:
        """Write a checkpoint, unless this step's is there."""
        self.saver.save(self.state, self.identity, self.records, must=must)
        self.costs = replace(self.costs, checkpoint=max(self.saver.seconds, self.costs.checkpoint))
