"""The scalar head: one number from the last state of what was read, r(x) = w h.

T tokens of a batch, N scores, d model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.model.decoder import Decoder
from orrery.train.loss import Loss
from orrery.tune.reward.batches import ScoreBatch
from orrery.tune.reward.config import Level, RewardConfig
from orrery.tune.reward.losses import pair_loss, verdict_loss

NAME = "score"
"""Under which a model that learns to score owns its head."""


class ScoreHead(nn.Module):
    """(N, d) states -> (N,) scores. It begins as normal(0, 1 / (d + 1)) (Stiennon et al. 2020, arXiv:2009.01325, appendix B.1)."""

    def __init__(self, d_model: int, *, seed: int = 0) -> None:
        super().__init__()
        drawn = torch.empty(d_model).normal_(generator=torch_generator(seed, "score head"))
        self.weight = nn.Parameter(
            drawn / (d_model + 1) ** 0.5
        )  # a vector: no optimiser takes it for a matrix

    def forward(self, states: Tensor) -> Tensor:
        return (states.float() * self.weight).sum(-1)


def put_head(model: Decoder, *, seed: int = 0) -> ScoreHead:
    """A new head that learns with the model; its own head over the vocabulary does not, having nothing to say here."""
    head = ScoreHead(model.cfg.d_model, seed=seed).to(model.device)
    setattr(model, NAME, head)
    for part in (model.lm_head, model.mtp):
        if part is not None:
            part.requires_grad_(False)
    return head


def take_head(model: Decoder) -> ScoreHead:
    """The head, which the model owns no longer."""
    head = getattr(model, NAME)
    delattr(model, NAME)
    return head


def scores_of(model: Decoder, head: ScoreHead, batch: ScoreBatch, ctx: Any = None) -> Tensor:
    """(N,) scores of a batch, one a place."""
    return head(model(batch.tokens, batch.context() if ctx is None else ctx)[batch.rows])


@dataclass(frozen=True)
class RewardLoss:
    """The loss of a model with a head on a `ScoreBatch` (`train.step.OwnLoss`)."""

    cfg: RewardConfig
    level: Level

    def context(self, batch: ScoreBatch) -> Any:
        return batch.context()

    def __call__(self, model: Any, batch: ScoreBatch, ctx: Any = None) -> Loss:
        scores = scores_of(model, getattr(model, NAME), batch, ctx)
        if self.level == "pair":
            chosen, rejected = scores.view(-1, 2).unbind(1)
            return pair_loss(chosen, rejected, margin=batch.margins, centre=self.cfg.centre)
        return verdict_loss(scores, batch.labels)
