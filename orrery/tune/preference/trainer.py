"""Preference learning: the reference read once, then the training loop with a loss of its own.

    result = prefer(PreferenceConfig(loss=Dpo(beta=0.1)), TrainConfig(steps=100), lm=lm, comparisons=found, out="runs/dpo")

All that surrounds the steps is `train.loop`'s: journals, plan, checkpoints, signals. A run that is killed anywhere goes on and ends with
the bits of an unbroken one. Dropout is off, so that equal weights give equal log-probabilities and the first loss of DPO is ln 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from orrery.kit.errors import OrreryError
from orrery.kit.log import Progress
from orrery.model.decoder import Decoder
from orrery.serve.lm import LM
from orrery.serve.mode import evaluating
from orrery.train.config import TrainConfig
from orrery.train.loop import TrainResult, train
from orrery.tune.preference.config import PreferenceConfig, needs_reference
from orrery.tune.preference.loader import PairLoader, Part
from orrery.tune.preference.material import Comparisons
from orrery.tune.preference.measure import Distance, Measured, measured
from orrery.tune.preference.objective import Objective
from orrery.tune.preference.online import Frozen, Judge, OnlineLoader
from orrery.tune.preference.reference import Parent, referenced
from orrery.tune.rl.problems import Problems


@dataclass(frozen=True, kw_only=True)
class Preferred:
    """How a run ended.

    Attributes:
        before, after: on the held-out comparisons; None: none were held out.
        kl: nats a token that the model has moved from its start, at probe positions; None likewise.
        start, end: the mean score of the likeliest answers to held-out problems, and rounds: of all answers of each round; online only.
    """

    training: TrainResult
    before: Measured | None
    after: Measured | None
    kl: float | None
    start: float | None = None
    end: float | None = None
    rounds: tuple[float, ...] = ()


def prefer(
    cfg: PreferenceConfig, loop: TrainConfig, *, lm: LM, out: str | Path, comparisons: Comparisons | None = None,
    problems: Problems | None = None, judge: Judge | None = None, parent: Parent | None = None, system: str = "", virtual: int = 0,
    sample: Callable[[Decoder, int], str] | None = None, progress: Progress | None = None,
) -> Preferred:  # fmt: skip
    """Train `lm.model` in place, or go on with the run that is in `out`.

    Args:
        comparisons: what is learned from; with `cfg.online` only its held-out part is looked at.
        problems: what is asked, with `cfg.online`. judge: what ranks answers; None: the problems' checkers.
        parent: the reference is what the model is within it (an adapter's frozen model); None: the model as it is now.
        virtual: ids that stand for an adapter's virtual tokens before every prompt.

    Raises:
        OrreryError: settings that do not go together, or a folder that holds another run.
        Interrupted: a signal asked to stop; everything is saved.
    """
    out, model = Path(out), lm.model
    share = cfg.loader.share and not model.state_spec()
    read = functools.partial(_part, cfg, model, parent, share, out)
    apart = comparisons.heldout if comparisons is not None else ()
    heldout = read("heldout", apart) if apart else None
    live: OnlineLoader | None = None
    if cfg.online is not None:
        live = _online(cfg, loop, lm, problems, out, parent, judge=judge, system=system, virtual=virtual)
        loader, objective = live, Objective(cfg.loss)
    elif comparisons is not None:
        parts = [read(name, items) for name, items in comparisons.parts.items()]
        loader = PairLoader(
            parts, cfg.loader, shares=comparisons.shares, purpose=cfg.loss, virtual=virtual, share=share
        )
        objective = Objective(cfg.loss, loader)
    else:
        raise OrreryError("there is nothing to learn from; give comparisons, or online with problems")
    look = _Look(cfg, heldout, model, share, virtual, parent)
    before, start = look.measured(model), _score(live)
    with without_dropout(model):
        result = train(
            loop, model=model, loader=loader, out=out, loss=objective, validation=None if heldout is None else look.told,
            sample=sample, progress=progress,
        )  # fmt: skip
    rounds = [] if live is None else live.scores(-(-result.steps // live.online.every))
    return Preferred(
        training=result, before=before, after=look.measured(model), kl=look.moved(model), start=start, end=_score(live),
        rounds=tuple(rounds),
    )  # fmt: skip


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """No module drops anything inside the block, in training mode either."""
    places: list[tuple[Any, str, float]] = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in (("p",) if isinstance(module, nn.Dropout) else ("dropout_p",))
        if hasattr(module, name)
    ]
    for module, name, _ in places:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in places:
            setattr(module, name, value)


@dataclass
class _Look:
    """What is measured before, during and after the steps."""

    cfg: PreferenceConfig
    heldout: Part | None
    model: Decoder
    share: bool
    virtual: int
    parent: Parent | None

    def __post_init__(self) -> None:
        with (self.parent or nullcontext)(), evaluating(self.model):
            self.distance = None if self.heldout is None else Distance(
                self.model, self.heldout.items, share=self.share, virtual=self.virtual
            )  # fmt: skip

    def measured(self, model: Decoder) -> Measured | None:
        if self.heldout is None:
            return None
        with evaluating(model):
            return measured(model, self.heldout, self.cfg.loss, share=self.share, virtual=self.virtual)

    def moved(self, model: Decoder) -> float | None:
        if self.distance is None:
            return None
        with evaluating(model):
            return self.distance(model)

    def told(self, model: Decoder) -> dict[str, float]:
        """A validation: the loss that should fall, and numbers beside it."""
        found, moved = self.measured(model), self.moved(model)
        assert found is not None and moved is not None
        return {
            "validation": found.loss, "heldout_accuracy": found.accuracy, "heldout_margin": found.margin, "kl_start": moved,
        }  # fmt: skip


def _part(
    cfg: PreferenceConfig,
    model: Decoder,
    parent: Parent | None,
    share: bool,
    out: Path,
    name: str,
    items: Any,
) -> Part:
    """Items with the reference's numbers, where the loss asks for them."""
    if not needs_reference(cfg.loss):
        return Part(name=name, items=tuple(items))
    return referenced(name, items, model, parent=parent, share=share, keep=out)


def _online(
    cfg: PreferenceConfig, loop: TrainConfig, lm: LM, problems: Problems | None, out: Path, parent: Parent | None, **more: Any
) -> OnlineLoader:  # fmt: skip
    """The loader of the model's own answers."""
    if loop.steps is None or problems is None:
        raise OrreryError(
            "online preference learning needs problems, and loop.steps rather than minutes: what a step learns from depends on the "
            "steps before it"
        )
    assert cfg.online is not None
    from_start = needs_reference(cfg.loss) and cfg.online.reference == "start"
    return OnlineLoader(
        cfg=cfg, lm=lm, problems=problems, folder=out / "rounds", seed=loop.seed,
        reference=_frozen(lm.model, parent) if from_start else None, **more,
    )  # fmt: skip


def _score(live: OnlineLoader | None) -> float | None:
    """The mean score of the likeliest answers to held-out problems; None where there are none."""
    return live.mean_score(live.problems.heldout) if live is not None and live.problems.heldout else None


def _frozen(model: Decoder, parent: Parent | None) -> Frozen:
    """The model as it is now, whatever it will learn: its own frozen part, or a copy."""
    if parent is None:
        copy = deepcopy(model).requires_grad_(False).eval()
        return lambda: nullcontext(copy)

    @contextmanager
    def alone() -> Iterator[Decoder]:
        with parent():
            yield model

    return alone
