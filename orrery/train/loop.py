"""The training loop: draw -> forward -> backward -> update -> log, until the plan's steps are done.

    result = train(TrainConfig(steps=1000), model=Decoder(cfg), loader=Loader(shards, LoaderConfig()), out="runs/x")

Stop it anywhere, by Ctrl-C or kill -9: the same call goes on, and ends with the bits an unbroken run would have had.
The folder holds run.json (the plan), metrics.jsonl, events.jsonl, samples.jsonl and checkpoints/.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from orrery.kit.allocator import keep_freed_memory
from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress, console
from orrery.model.decoder import Decoder
from orrery.train.blocks import compiled, recomputed
from orrery.train.budget import first_total
from orrery.train.checkpoint import only_one
from orrery.train.config import TrainConfig
from orrery.train.objectives import CausalLM, DraftObjective, MultiToken
from orrery.train.objectives.apply import Vocabulary
from orrery.train.precision import choose_precision
from orrery.train.probe import measure_costs
from orrery.train.run import Run, Sample, Validate
from orrery.train.schedule import lr_at
from orrery.train.signals import Interrupted, StopRequest
from orrery.train.state import load_model_tensors, model_tensors
from orrery.train.step import Batches, OwnLoss, Setup, World, draw, forward_backward, update


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps: updates done, skipped ones included; `total` were planned.
        loss: mean training loss of the last steps.
        validation, best, best_step: the last and the lowest validation, and after how many steps that was; None: never validated.
        tokens_per_s, utilisation: of the steps of this process; utilisation is model FLOPs against the measured matmul peak.
        seconds: of the whole run, interruptions apart.
        resumed_from: the step this process went on from; None if it began.
        checkpoint: the last one.
    """

    steps: int
    total: int
    tokens: int
    seconds: float
    loss: float | None
    validation: float | None
    best: float | None
    best_step: int | None
    skipped: int
    spikes: int
    tokens_per_s: float
    utilisation: float
    peak_flops: float
    stopped_early: bool
    resumed_from: int | None
    checkpoint: Path


def train(
    cfg: TrainConfig, *, model: Decoder, loader: Batches, out: str | Path, validation: Validate | None = None,
    sample: Sample | None = None, progress: Progress | None = None, vocabulary: Vocabulary | None = None,
    bytes_per_token: float | None = None, loss: OwnLoss | None = None,
) -> TrainResult:  # fmt: skip
    """Train `model` in place, or go on with the run that is in `out`.

    At the end the model holds the weights to keep: the last ones, their average if `cfg.ema`, the best if `cfg.early_stop`.

    Args:
        model: as initialised; a resumed run overwrites its weights.
        loader: batches as a pure function of (step, micro-batch); its `micro_batches` are accumulated in a step.
        out: the run's folder.
        validation: model -> a number that should fall, on text kept from training (nats a token or bits a byte).
        sample: (model, steps done) -> text for samples.jsonl.
        vocabulary: the tokenizer, for objectives that need special tokens.
        bytes_per_token: of the training text; give it where `validation` is in bits a byte, so that the gap is too.
        loss: in place of `cfg.objective`; batches are then whatever it reads, with the fields of `data.batch.Batch`. Its settings belong
            into the loader's fingerprint.

    Raises:
        OrreryError: settings that do not go together, a folder that cannot be written or holds another run, no good
            checkpoint left, too many steps without a finite gradient, not enough memory.
        Interrupted: a signal asked to stop; everything is saved.
    """
    out, world = Path(out), World.here()
    device = next(model.parameters()).device
    if loss is not None and (cfg.objective, cfg.label_smoothing, cfg.z_loss) != (CausalLM(), 0.0, 0.0):
        raise OrreryError(
            "this run has a loss of its own; leave objective, label_smoothing and z_loss out of its loop"
        )
    if vocabulary is None and not isinstance(cfg.objective, CausalLM | MultiToken | DraftObjective):
        raise OrreryError(
            f"the objective '{cfg.objective.kind}' needs special tokens; give train() the tokenizer as vocabulary"
        )
    if (loader.rank, loader.world) != (world.rank, world.size):
        raise OrreryError(
            f"the loader is made for rank {loader.rank} of {loader.world} and this process is rank {world.rank} of {world.size}; "
            "give Loader the rank and world of torch.distributed"
        )
    keep_freed_memory()
    setup = Setup(
        cfg, model, loader, world, choose_precision(cfg.precision, device), device, vocabulary, loss
    )
    with ExitStack() as stack:
        if world.rank == 0:
            stack.enter_context(only_one(out))
        stop = stack.enter_context(StopRequest())
        stack.enter_context(reproducible() if cfg.deterministic else nullcontext())
        stack.enter_context(compiled(model) if cfg.compile else nullcontext())
        stack.enter_context(recomputed(model) if cfg.activation_checkpointing else nullcontext())
        model.train()
        run = Run(
            setup,
            out,
            validation=validation,
            sample=sample,
            progress=progress,
            bytes_per_token=bytes_per_token,
        )
        stack.callback(run.records.close)
        with memory_explained(run):
            if not run.state.plan.entries:
                plan_steps(run)
            steps(run, stop)
        return finish(run)


def steps(run: Run, stop: StopRequest) -> None:
    """The loop."""
    cfg, setup, state = run.cfg, run.setup, run.state
    while not state.done:
        run.replan()
        step, began = state.step, time.monotonic()
        batches = draw(setup, step)
        totals = forward_backward(setup, batches, step, state.scaler)
        lr = state.optimizer.set_lr(lr_at(cfg.schedule, step, state.plan.total_at(step)))
        tokens = sum(map(len, batches))
        outcome = update(setup, state.optimizer, state.scaler, totals, tokens=tokens, stop=stop.asked)
        run.log(step, batches, outcome, lr=lr, seconds=time.monotonic() - began)
        if outcome.stop:
            break
    run.save(must=True)
    if stop.asked or not state.done:
        raise Interrupted(state.step, state.plan.total_at(state.step))


def plan_steps(run: Run) -> None:
    """Fix how many steps there will be: as told, or as many as fit into the minutes."""
    cfg = run.cfg
    if cfg.steps is not None:
        lr_at(cfg.schedule, 0, cfg.steps)  # a warmup that does not fit is said now
        run.set_plan(cfg.steps, "as set")
        return
    assert cfg.minutes is not None
    costs = measure_costs(run)
    total = first_total(cfg, costs, 60 * cfg.minutes - run.elapsed())
    run.set_plan(total, f"{1000 * costs.step:.1f} ms a step, {cfg.minutes:g} minutes", costs)


def finish(run: Run) -> TrainResult:
    """Put the weights to keep into the model, and say how it went."""
    state, model = run.state, run.setup.model
    if run.cfg.early_stop is not None and state.best is not None:
        best = run.saver.checkpoints.load(state.best_step)
        load_model_tensors(model, best.tensors["model"] | best.tensors.get("ema", {}))
    elif state.ema:
        load_model_tensors(model, model_tensors(model) | state.ema.average())
    model.eval()
    speed, used = run.tokens_here / max(run.seconds_here, 1e-9), run.used.of(run.flops_here, run.seconds_here)
    if run.leads and run.steps_here:
        peak = f"{used:.1%} of this machine's measured matmul peak ({run.used.peak / 1e9:,.0f} GFLOP/s)"
        console.print(
            f"{run.steps_here:,} steps, {speed:,.0f} tokens/s, {peak}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )
    return TrainResult(
        steps=state.step,
        total=state.plan.newest.total,
        tokens=state.tokens,
        seconds=state.seconds,
        loss=sum(loss for _, loss in state.recent) / len(state.recent) if state.recent else None,
        validation=state.validation,
        best=state.best,
        best_step=None if state.best is None else state.best_step,
        skipped=state.skips.total,
        spikes=state.spiked,
        tokens_per_s=speed,
        utilisation=used,
        peak_flops=run.used.peak,
        stopped_early=state.stopped,
        resumed_from=run.resumed_from,
        checkpoint=run.saver.checkpoints.path(state.step),
    )


@contextmanager
def reproducible() -> Iterator[None]:
    """Let torch use only kernels that give the same bits every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    fills: Any = torch.utils.deterministic
    mode, fill = torch.get_deterministic_debug_mode(), fills.fill_uninitialized_memory
    torch.set_deterministic_debug_mode(
        "error"
    )  # as use_deterministic_algorithms, but that imports inductor (2 s)
    fills.fill_uninitialized_memory = False  # costs time, and nothing here reads such memory
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        fills.fill_uninitialized_memory = fill


@contextmanager
def memory_explained(run: Run) -> Iterator[None]:
    """Say what to do where memory runs out; the last checkpoint is good, because a save is whole or not there."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (
            not isinstance(error, MemoryError)
            and "allocate memory" not in str(error)
            and "out of memory" not in str(error)
        ):
            raise
        raise OrreryError(
            f"not enough memory in step {run.state.step:,} ({run.saver.kept()}); use fewer rows in a micro-batch with more micro_batches, "
            "a smaller model, or activation_checkpointing: true"
        ) from error
