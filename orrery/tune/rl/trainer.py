"""Reinforcement learning on the live model: draw problems, answer them through the engine, judge, give credit, update.

    result = reinforce(cfg, TrainConfig(steps=100), lm=lm, problems=problems, out="runs/rl")

One step is one such round. Its randomness is keyed by (seed, step), its problems by what was drawn before, and a checkpoint lies between
rounds: a run that is killed anywhere repeats its last round bit for bit. What surrounds the steps (journals, plan, checkpoints, signals) is
`train`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import write_rows
from orrery.kit.log import Progress
from orrery.kit.seeds import key
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.train.budget import Costs, due, first_total
from orrery.train.checkpoint import only_one
from orrery.train.config import TrainConfig
from orrery.train.loop import memory_explained, reproducible
from orrery.train.optim.build import build_optimizer
from orrery.train.precision import choose_precision
from orrery.train.run import LEAST_PACE, Run
from orrery.train.schedule import WSD, Constant, lr_at
from orrery.train.signals import Interrupted, StopRequest
from orrery.train.state import load_model_tensors, model_tensors
from orrery.train.step import Setup, World
from orrery.tune.rl.answering import Answering, Here, copied
from orrery.tune.rl.config import RlConfig
from orrery.tune.rl.curriculum import Draws
from orrery.tune.rl.problems import Problems
from orrery.tune.rl.reading import Reader, ValueHead
from orrery.tune.rl.recorded import Groups, check_recorded, plain
from orrery.tune.rl.rewards import Learned
from orrery.tune.rl.round import Reference, Round
from orrery.tune.rl.routing import routers
from orrery.tune.rl.workers.config import Cluster

HOPE = 2.0
"""Rounds get cheaper as answers get shorter, so that more may fit than one of the first says. Rounds planned too many are taken back in
time where there are enough of them to go by (`Run.replan`), too few never added."""

Parent = Callable[[], AbstractContextManager[None]]
"""Within what it gives the model is as it began (an adapter's frozen model)."""


@dataclass(frozen=True, kw_only=True)
class RlResult:
    """How a run ended.

    Attributes:
        steps: rounds done; `total` were planned. drawn: problems; tokens: read or written in updates; sampled: written by the model.
        start, end: greedy accuracy on the held-out problems before the first round and after the last; None: nothing is held out.
        last: the last round's line of metrics.
    """

    steps: int
    total: int
    drawn: int
    tokens: int
    sampled: int
    seconds: float
    start: float | None
    end: float | None
    skipped: int
    resumed_from: int | None
    last: dict[str, Any]


@dataclass
class Sequenced:
    """The steps of a run, as `Run` asks of a loader."""

    fingerprint: str
    rank: int = 0
    world: int = 1
    config: Any = None

    def batch(self, step: int, micro: int = 0) -> Any:
        raise AssertionError("a round makes its own batches")


def reinforce(
    cfg: RlConfig, loop: TrainConfig, *, lm: LM, problems: Problems, out: str | Path, parent: Parent | None = None,
    learned: Learned | None = None, recorded: Groups = (), system: str = "", virtual: int = 0, progress: Progress | None = None,
) -> RlResult:  # fmt: skip
    """Train `lm.model` in place, or go on with the run that is in `out`.

    Args:
        parent: None: a copy of the model is kept where its start is needed.
        learned: the reward model, where the rewards name one.
        recorded: what `read_recorded` read of `cfg.replay`.
        virtual: ids that stand for an adapter's virtual tokens before every conversation.

    Raises:
        OrreryError: settings that do not go together, a folder that holds another run, problems too long for the context, workers that
            cannot be had or die again and again. MissingExtra: workers are asked for, and Ray is not installed.
        Interrupted: a signal asked to stop; everything is saved.
    """
    check(cfg, loop)
    check_recorded(
        cfg.replay,
        recorded,
        vocab_size=lm.model.cfg.vocab_size,
        layers=len(routers(lm.model)) if cfg.router_replay else 0,
    )
    out, model, device = Path(out), lm.model, lm.model.device
    if cfg.parts.critic is not None:
        model.critic = ValueHead(model.cfg.d_model, cfg.parts.critic, seed=key(loop.seed, "critic"))  # type: ignore[bad-argument-type]
        model.critic.to(device)
    try:
        same = replace(cfg, workers=0, cluster=Cluster())  # who answers changes nothing
        told = [plain(one) for group in recorded for one in group]
        loader = Sequenced(digest([to_dict(same), problems.fingerprint, system, told], 16))
        setup = Setup(loop, model, loader, World.here(), choose_precision(loop.precision, device), device)
        with ExitStack() as stack:
            stack.enter_context(only_one(out))
            answers = stack.enter_context(
                answering(cfg, lm, system=system, virtual=virtual, deterministic=loop.deterministic)
            )
            reference = reference_of(model, parent) if cfg.kl.beta or cfg.kl.measure_every else None
            stop = stack.enter_context(StopRequest())
            stack.enter_context(reproducible() if loop.deterministic else nullcontext())
            run = Run(setup, out, validation=None, sample=None, progress=progress, bytes_per_token=None)
            stack.callback(run.records.close)
            draws = Draws(cfg.curriculum, problems.sets, key(loop.seed, "problems"))
            work = Round(
                cfg=cfg, setup=setup, draws=draws, learned=learned, virtual=virtual, reference=reference, beta=cfg.kl.beta,
                bonus=cfg.entropy.coefficient,
                answers=answers, recorded=recorded, reader=Reader(model=model, temperature=cfg.rollout.temperature),
            )  # fmt: skip
            work.load(run.state.extra)
            model.eval()  # no dropout: what learns is what drew
            with memory_explained(run):
                if not run.state.plan.entries:
                    _plan(run, work)
                return _rounds(run, work, problems, stop)
    finally:
        if hasattr(model, "critic"):
            del model.critic


def answering(
    cfg: RlConfig, lm: LM, *, system: str, virtual: int, deterministic: bool
) -> AbstractContextManager[Answering]:
    """Who answers: the live engine, or workers."""
    if not cfg.workers:
        return nullcontext(Here.of(cfg, lm, system=system, virtual=virtual))
    from orrery.tune.rl.workers.group import workers

    return workers(cfg, lm, system=system, virtual=virtual, deterministic=deterministic)


def check(cfg: RlConfig, loop: TrainConfig) -> None:
    """Refuse settings of the loop that mean nothing here.

    Raises:
        OrreryError: names them.
    """
    plain = TrainConfig(steps=1)
    names = (
        "objective",
        "ema",
        "label_smoothing",
        "z_loss",
        "compile",
        "activation_checkpointing",
        "early_stop",
    )
    given = [name for name in names if getattr(loop, name) != getattr(plain, name)]
    if given:
        raise OrreryError(f"reinforcement learning takes no {', '.join(given)} in its loop; leave that out")
    if World.here().size > 1:
        raise OrreryError("reinforcement learning runs in one process; start it without torchrun")


def _rounds(run: Run, work: Round, problems: Problems, stop: StopRequest) -> RlResult:
    """The loop."""
    state, loop = run.state, run.cfg
    while not state.done:
        run.replan()
        step, began = state.step, time.monotonic()
        total = state.plan.total_at(step)
        line: dict[str, Any] = {}
        if step == 0 and problems.heldout:
            line["heldout_start"] = work.start = work.accuracy(problems.heldout)
        lr = state.optimizer.set_lr(lr_at(loop.schedule, step, total))
        outcome, batches, told = work.go(
            step, state.optimizer, state.scaler, stop=stop.asked, last=step + 1 == total
        )
        if problems.heldout and due(loop.validate_every, step + 1, total):
            line["heldout"] = work.end = work.accuracy(problems.heldout)
        line |= told
        work.last = {name: value for name, value in line.items() if name != "explain"}
        state.extra = work.state()
        if work.cfg.keep_rollouts:
            (run.out / "rollouts").mkdir(exist_ok=True)
            write_rows(run.out / "rollouts" / f"{step:06d}.jsonl", map(plain, work.episodes))
        if due(loop.sample_every, step + 1, total):
            run.records.sample(step + 1, work.shown)
        run.log(step, batches, outcome, lr=lr, seconds=time.monotonic() - began, more=line)
        if outcome.stop:
            break
    run.save(must=True)
    if stop.asked or not state.done:
        raise Interrupted(state.step, state.plan.total_at(state.step))
    return RlResult(
        steps=state.step, total=state.plan.newest.total, drawn=work.draws.drawn, tokens=state.tokens, sampled=work.sampled,
        seconds=state.seconds, start=work.start, end=work.end, skipped=state.skips.total, resumed_from=run.resumed_from, last=work.last,
    )  # fmt: skip


def _plan(run: Run, work: Round) -> None:
    """Fix how many rounds there will be: as told, or as many as fit into the minutes, by one that is undone again."""
    loop = run.cfg
    if loop.steps is not None:
        lr_at(loop.schedule, 0, loop.steps)
        run.set_plan(loop.steps, "as set")
        return
    assert loop.minutes is not None
    model, state = run.setup.model, work.state()
    before = {name: tensor.detach().clone() for name, tensor in model_tensors(model).items()}
    optimizer, scaler = build_optimizer(model, loop.optimizer), run.setup.precision.scaler()
    optimizer.set_lr(1e-3)
    seconds = []
    for _ in range(2):  # the first one warms up
        began = time.monotonic()
        work.go(0, optimizer, scaler, stop=False, last=False)
        seconds.append(time.monotonic() - began)
        run.progress.update(0, None, trial_round=len(seconds), seconds=seconds[-1])
    load_model_tensors(model, before)
    model.zero_grad(set_to_none=True)
    work.load(state)
    work.answers.weights_changed()
    costs, left = Costs(step=seconds[-1]), 60 * loop.minutes - run.elapsed()
    total = first_total(loop, costs, left)
    if isinstance(loop.schedule, WSD | Constant) and total >= LEAST_PACE:
        total = first_total(loop, replace(costs, step=costs.step / HOPE), left)
    run.set_plan(total, f"{1000 * costs.step:.0f} ms a round, {loop.minutes:g} minutes", costs)


def reference_of(model: Decoder, parent: Parent | None) -> Reference:
    """The model as it is now, whatever it will learn: its own frozen part, or a copy."""
    if parent is None:
        copy = copied(model).requires_grad_(False)
        return lambda: nullcontext(copy)

    @contextmanager
    def alone() -> Iterator[Decoder]:
        with parent():
            yield model

    return alone
