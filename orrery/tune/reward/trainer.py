"""Training a reward model: `train.loop.train` with a head, a loss of its own, and held-out items as its validation.

    material = RewardMaterial.of(sets, heldout, ...)
    result = train_reward(TrainConfig(minutes=2), model=model, material=material, level="pair", cfg=RewardConfig(), out="runs/reward")

Resuming, checkpoints, plans and logs are the loop's; batches are a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from orrery.kit.config import to_dict
from orrery.kit.log import Progress
from orrery.kit.seeds import key
from orrery.model.decoder import Decoder
from orrery.train.config import TrainConfig
from orrery.train.loop import TrainResult, train
from orrery.tune.reward.batches import RewardLoader
from orrery.tune.reward.config import Level, RewardConfig, RewardLoaderConfig
from orrery.tune.reward.head import RewardLoss, ScoreHead, put_head, take_head
from orrery.tune.reward.items import Item
from orrery.tune.reward.measure import Judged, heldout_scores, judge


@dataclass(frozen=True, kw_only=True)
class RewardMaterial:
    """What is learned and what is kept apart.

    Attributes:
        sets: items to learn from, by set. shares: as `RewardLoader` takes them. heldout: items to measure with.
        virtual: ids for an adapter's virtual tokens before everything.
    """

    sets: Sequence[Sequence[Item]]
    heldout: Sequence[Item] = ()
    shares: Sequence[float] | None = None
    virtual: int = 0


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """How it went.

    Attributes:
        run: the loop's result. epochs: passes over the items.
        before, after: on held-out items; None: nothing is held out. scores: (N,) of these, afterwards.
    """

    run: TrainResult
    head: ScoreHead
    before: Judged | None
    after: Judged | None
    scores: Tensor
    epochs: float


def train_reward(
    loop: TrainConfig, *, model: Decoder, material: RewardMaterial, level: Level, out: str | Path, cfg: RewardConfig | None = None,
    loader: RewardLoaderConfig | None = None, number: int = 0, epochs: float | None = None, progress: Progress | None = None,
) -> RewardResult:  # fmt: skip
    """Train `model` in place as a reward model, or go on with the run in `out`. The model is without the head afterwards.

    Args:
        number: of the member of an ensemble: another head, another order.
        epochs: passes over the items, in place of the loop's steps or minutes.

    Raises:
        OrreryError: as `train.loop.train`.
        Interrupted: a signal asked to stop; everything is saved.
    """
    cfg, loader = cfg or RewardConfig(), loader or RewardLoaderConfig()
    share = loader.share and not model.state_spec()
    loader = replace(loader, seed=key(loader.seed, "member", number) if number else loader.seed, share=share)
    purpose = [level, to_dict(cfg)]
    batches = RewardLoader(
        material.sets, loader, shares=material.shares, purpose=purpose, virtual=material.virtual
    )
    if epochs is not None:
        loop = replace(loop, steps=max(1, round(epochs * batches.steps_per_epoch)), minutes=None)

    def scores(net: Decoder) -> Tensor:
        if not material.heldout:
            return torch.zeros(0)
        return heldout_scores(net, material.heldout, loader, virtual=material.virtual)

    def judged(found: Tensor) -> Judged | None:
        return judge(found, material.heldout, level) if material.heldout else None

    def missed(net: Decoder) -> float:
        return judge(scores(net), material.heldout, level).nll

    put_head(model, seed=key(loop.seed, "head", number))
    model.eval()
    before = judged(scores(model))
    try:
        result = train(
            loop,
            model=model,
            loader=batches,
            out=out,
            validation=missed if material.heldout else None,
            progress=progress,
            loss=RewardLoss(cfg, level),
        )
        last = scores(model)
    finally:
        head = take_head(model)
    return RewardResult(
        run=result,
        head=head,
        before=before,
        after=judged(last),
        scores=last,
        epochs=result.steps / batches.steps_per_epoch,
    )
