"""What surrounds the steps of a run: beginning or going on, writing down, validating, saving, finishing."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from orrery.data.batch import Batch
from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import sweep
from orrery.kit.log import Progress, Silent, console
from orrery.model.decoder import Decoder
from orrery.train.budget import RESERVE_LATE, Costs, Entry, Plan, due, read_plan, shorter_total
from orrery.train.checkpoint import Checkpoint, Checkpoints, read_checkpoint
from orrery.train.journal import Journal
from orrery.train.monitor import Utilisation, matmul_peak
from orrery.train.state import TrainState, check_identity, identity
from orrery.train.step import Outcome, Setup, seed_everything
from orrery.train.tracker import Tracker, trackio_tracker

PACE, LEAST_PACE, SHOWN_EVERY_S = 64, 16, 0.1
SAVE_TRIES, SAVE_WAIT_S = 5, 2.0

Validate = Callable[[Decoder], float]
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
        self.setup, self.cfg, self.out = setup, setup.cfg, out
        self.validation, self.sample, self.bytes_per_token = validation, sample, bytes_per_token
        self.progress = progress or Silent()
        self.leads = setup.world.rank == 0
        self.opened = time.monotonic()
        self.state = TrainState.begin(setup.cfg, setup.model, setup.precision)
        keep = setup.cfg.checkpoint
        self.checkpoints = Checkpoints(out / "checkpoints", keep_last=keep.keep_last, keep_best=keep.keep_best)
        self.identity = identity(setup.cfg, setup.model, setup.loader.fingerprint)
        self.used = Utilisation(setup.model.cfg, matmul_peak(setup.device.type, setup.precision.dtype))
        self.costs = Costs(step=0.0)
        self.pace: deque[float] = deque(maxlen=PACE)
        self.resumed_from = self._resume()
        self.seconds_before = self.state.seconds
        self.saved_at = self.state.step if self.resumed_from is not None else -1
        self.saved_time, self.save_failures, self.save_not_before = time.monotonic(), 0, 0.0
        self.shown = -math.inf
        self.steps_here, self.tokens_here, self.flops_here, self.seconds_here = 0, 0, 0.0, 0.0
        self.tracker: Tracker | None = None
        if self.leads:
            at = self.state.step
            self.metrics = Journal(out / "metrics.jsonl", resume_at=at)
            self.events = Journal(out / "events.jsonl", resume_at=at)
            self.samples = Journal(out / "samples.jsonl", resume_at=at + 1)  # their step is the number of steps done
            if setup.cfg.track:
                self.tracker = trackio_tracker(
                    project=setup.cfg.track, name=out.resolve().name, config=to_dict(setup.cfg), say=self.say
                )
            for text in self.checkpoints.found_damaged:
                self.event("damaged checkpoint", message=text, say=f"{text}; going on from step {at:,}")

    def _resume(self) -> int | None:
        """Load the newest good checkpoint, if any, and the recorded plan; the step it goes on from."""
        world = self.setup.world
        found: Checkpoint | None = None
        if self.leads:
            sweep(self.out)
            sweep(self.checkpoints.folder)
            found = self.checkpoints.newest()
            self.checkpoints.prune()  # a crash may have come between a save and its pruning
        step = int(world.agree(found.state["step"] if found else -1))
        if step >= 0 and not self.leads:
            found = read_checkpoint(self.checkpoints.path(step))
        recorded = read_plan(self.out)
        if found is None:
            if recorded and recorded[1].get("run") == self._name:
                self.state.plan = recorded[0]
            return None
        different = check_identity(found.state["identity"], self.identity, self.out)
        if different and self.leads:
            self.say(f"since the checkpoint these have changed: {', '.join(different)}; results may differ in the last bits")
        self.state.load(found)
        self.state.plan = recorded[0] if recorded else Plan([Entry(**entry) for entry in found.state["plan"]])
        if self.state.plan.plain()[: len(found.state["plan"])] != found.state["plan"]:
            raise OrreryError(f"'{self.out / 'run.json'}' is not what was written; remove it, the checkpoint knows the plan")
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
        self.save_plan()

    def save_plan(self) -> None:
        """`run.json`."""
        if self.leads:
            self.state.plan.save(self.out, run=self._name, minutes=self.cfg.minutes, costs=to_dict(self.costs))

    def replan(self) -> None:
        """Shorten a run that would not be done in its minutes, while that changes no step already taken."""
        state, plan = self.state, self.state.plan
        if self.cfg.minutes is None or len(self.pace) < LEAST_PACE or state.step <= plan.newest.from_step:
            return
        costs = Costs(sum(self.pace) / len(self.pace), self.costs.validation, self.costs.sample, self.costs.checkpoint)
        left = 60 * self.cfg.minutes * (1 - RESERVE_LATE) - self.elapsed()
        new = shorter_total(self.cfg, costs, step=state.step, total=plan.newest.total, seconds_left=left)
        new = int(self.setup.world.agree(new or 0))
        if new:
            old = plan.newest.total
            why = f"{1000 * costs.step:.1f} ms a step and {left:.0f} s left"
            plan.shorten(state.step, new, why)
            self.save_plan()
            say = f"the machine is slower than it was: {new:,} steps instead of {old:,}, to end in time"
            self.event("shortened", total=new, before=old, why=why, say=say)

    def log(self, step: int, batches: Sequence[Batch], outcome: Outcome, *, lr: float, seconds: float) -> None:
        """Count and write down a step, watch its loss, then validate, sample and save if it is time to."""
        state = self.state
        state.step = step + 1
        tokens = int(outcome.sums["tokens"])
        state.tokens += tokens
        flops = self.setup.world.size * sum(self.used.flops(b.lengths, int((b.weights > 0).sum())) for b in batches)
        self.pace.append(seconds)
        self.steps_here += 1
        self.tokens_here, self.flops_here, self.seconds_here = (
            self.tokens_here + tokens, self.flops_here + flops, self.seconds_here + seconds,
        )  # fmt: skip
        line: dict[str, Any] = {
            "step": step, "loss": outcome.mean("loss"), "lr": lr, "grad_norm": outcome.grad_norm, "tokens": state.tokens,
            **{name: outcome.mean(name) for name, value in outcome.sums.items() if self._is_told(name, value, outcome)},
            "tokens_per_s": tokens / max(seconds, 1e-9), "mfu": self.used.of(flops / self.setup.world.size, seconds),
        }  # fmt: skip
        self._watch(step, batches, outcome, line)
        total = state.plan.total_at(step)
        if self.validation is not None and due(self.cfg.validate_every, state.step, total):
            line |= self._validate()
        state.seconds = line["seconds"] = self.elapsed()
        if self.leads and (state.step % self.cfg.log_every == 0 or "validation" in line or state.done):
            self.metrics.write(line)
            if self.tracker:
                self.tracker.log(line, step)
        self._show(line, total)
        if self.sample is not None and self.leads and due(self.cfg.sample_every, state.step, total):
            self._sample()
        if self._save_is_due(total):
            self.save()

    @staticmethod
    def _is_told(name: str, value: float, outcome: Outcome) -> bool:
        """The unsmoothed loss ("nll") is told only where it is another number than the loss."""
        return name not in ("loss", "weight", "tokens") and not (name == "nll" and value == outcome.sums["loss"])

    def _watch(self, step: int, batches: Sequence[Batch], outcome: Outcome, line: dict[str, Any]) -> None:
        """Skips and spikes, with the documents that were in the batch. Only finite losses enter statistics."""
        state = self.state
        if outcome.skipped:
            line["skipped"] = outcome.skipped
            self.event(
                "skipped", why=outcome.skipped, loss=str(outcome.mean("loss")), grad_norm=str(outcome.grad_norm),
                loss_scale=state.scaler.factor, documents=documents(batches),
            )  # fmt: skip
            if outcome.overflow:
                state.skips.total += 1
            else:
                state.skips.skip(step, outcome.skipped)
            return
        state.skips.fine()
        loss = outcome.mean("loss")
        state.recent.append((step, loss))
        state.nats += outcome.sums["nll"]
        state.predicted += outcome.sums["weight"]
        if state.ema:
            state.ema.update()
        height = state.spikes.see(loss)
        if height is not None:
            state.spiked += 1
            self.event("spike", loss=loss, sigmas=round(height, 2), documents=documents(batches))

    def _validate(self) -> dict[str, float]:
        """Call the validation function on the (averaged) weights; note the best and the gap to the training loss."""
        state, began = self.state, time.monotonic()
        with self.quiet("validation"):
            assert self.validation is not None
            value = self.setup.world.agree(float(self.validation(self.setup.model)) if self.leads else 0.0)
        self.costs = Costs(self.costs.step, time.monotonic() - began, self.costs.sample, self.costs.checkpoint)
        unit = 1.0 if self.bytes_per_token is None else math.log(2) * self.bytes_per_token
        trained = state.nats / max(state.predicted, 1e-9) / unit
        state.nats = state.predicted = 0.0
        state.validation, state.validated_at = value, state.step
        if math.isfinite(value) and (state.best is None or value < state.best):
            state.best, state.best_step = value, state.step
        state.stopped = state.stopper is not None and state.stopper.update(value)
        if state.stopped:
            self.event("stopped early", best=state.best, best_step=state.best_step)
        return {"validation": value, "gap": value - trained}

    def _sample(self) -> None:
        began = time.monotonic()
        with self.quiet("sample"):
            assert self.sample is not None
            text = self.sample(self.setup.model, self.state.step)
        self.samples.write({"step": self.state.step, "text": text})
        self.costs = Costs(self.costs.step, self.costs.validation, time.monotonic() - began, self.costs.checkpoint)

    @contextmanager
    def quiet(self, purpose: str) -> Iterator[None]:
        """The model as it will be used: averaged weights, no dropout, no gradients, its own randomness."""
        model = self.setup.model
        seed_everything(self.setup.device, self.cfg.seed, purpose, self.state.step)
        model.eval()
        with self.state.ema.swapped() if self.state.ema else nullcontext(), torch.no_grad():
            yield
        model.train()

    def _save_is_due(self, total: int) -> bool:
        rule, state = self.cfg.checkpoint, self.state
        now = time.monotonic()
        if not self.leads or now < self.save_not_before:
            return False
        by_steps = rule.every_steps is not None and state.step % rule.every_steps == 0
        by_time = rule.every_seconds is not None and now - self.saved_time >= rule.every_seconds
        is_best = rule.keep_best > 0 and state.best_step == state.step
        return by_steps or by_time or is_best or self.save_failures > 0

    def save(self, *, must: bool = False) -> None:
        """Write a checkpoint. A failure is told and tried again later, unless it `must` be or has failed too often.

        Raises:
            OrreryError: it cannot be written; the one before is intact.
        """
        if not self.leads or self.saved_at == self.state.step:
            return
        began = time.monotonic()
        for journal in (self.metrics, self.events, self.samples):
            journal.flush(durable=True)
        state = {**self.state.plain(), "identity": self.identity}
        try:
            self.checkpoints.save(self.state.step, tensors=self.state.tensors(), state=state)
        except OrreryError as error:
            self.save_failures += 1
            if must or self.save_failures >= SAVE_TRIES:
                kept = f"the checkpoint after step {self.saved_at:,} is kept" if self.saved_at >= 0 else "there is no earlier one"
                raise OrreryError(f"no checkpoint could be saved after step {self.state.step:,}: {error} ({kept})") from error
            self.save_not_before = time.monotonic() + SAVE_WAIT_S * 2**self.save_failures
            self.event("save failed", message=str(error), say=f"{error}; training goes on and will try again")
            return
        self.saved_at, self.saved_time, self.save_failures = self.state.step, time.monotonic(), 0
        self.costs = Costs(self.costs.step, self.costs.validation, self.costs.sample, self.saved_time - began)

    def event(self, kind: str, *, say: str | None = None, **fields: Any) -> None:
        """A line of events.jsonl, and a sentence to the person if there is one."""
        if self.leads:
            self.events.write({"step": max(0, self.state.step - 1), "event": kind, **fields})
            if say:
                self.say(say)

    def say(self, text: str) -> None:
        """A sentence to the person."""
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _show(self, line: dict[str, Any], total: int) -> None:
        now = time.monotonic()
        if now - self.shown >= SHOWN_EVERY_S or self.state.step == total:
            self.shown = now
            self.progress.update(self.state.step, total, loss=line["loss"], tokens_per_s=line["tokens_per_s"])

    def close(self) -> None:
        """Write what is pending and let go of the files."""
        if not self.leads:
            return
        for journal in (self.metrics, self.events, self.samples):
            journal.close()
            if journal.failed:
                self.say(f"the last lines of '{journal.path}' could not be written: {journal.failed}")
        if self.tracker:
            self.tracker.close()


def documents(batches: Sequence[Batch]) -> list[list[int]]:
    """[corpus, document, first token, tokens] of every piece of the batches."""
    return [[p.corpus, p.document, p.start, p.length] for batch in batches for p in batch.pieces]
