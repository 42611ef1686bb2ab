"""How good a reward model is on what it has not seen: how often it is right, and whether it knows how sure to be.

    pairs       accuracy = share with r+ > r-;  sure of it: sigma(|r+ - r-|)
    verdicts    accuracy = share on the right side of 0;  sure of it: sigma(|r|);  AUC over all of them

Calibration is that of `evaluate.metrics.calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orrery.evaluate.metrics.calibration import brier_score, ece
from orrery.evaluate.metrics.roc import roc_auc
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate
from orrery.model.decoder import Decoder
from orrery.tune.reward.batches import batch_of_items
from orrery.tune.reward.config import Level, RewardLoaderConfig
from orrery.tune.reward.head import NAME, scores_of
from orrery.tune.reward.items import Item
from orrery.tune.reward.losses import pair_loss, verdict_loss


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was measured.

    Attributes:
        nll: nats a pair or verdict. margin: mean lead of the better answer (pairs). auc: of verdicts of both kinds, else nan.
        ece, brier: of how sure it was of what it said.
    """

    accuracy: Estimate
    nll: float
    ece: float
    brier: float
    margin: float = float("nan")
    auc: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not known is None."""
        numbers = {name: getattr(self, name) for name in ("nll", "ece", "brier", "margin", "auc")}
        known = {name: None if value != value else value for name, value in numbers.items()}
        return {"accuracy": self.accuracy.to_dict(), **known}


def judge_pairs(chosen: Tensor, rejected: Tensor) -> Judged:
    """Of (P,) scores of better and worse answers. Equal scores are half right."""
    loss = pair_loss(chosen, rejected)
    ahead = (chosen - rejected).double()
    right = (ahead > 0).double() + 0.5 * (ahead == 0).double()
    sure = torch.sigmoid(ahead.abs())
    return Judged(
        accuracy=mean_estimate(right.tolist()),
        nll=float(loss.stats["nll"] / loss.weight),
        ece=ece(sure, right),
        brier=brier_score(sure, right),
        margin=float(ahead.mean()),
    )


def pair_calibration(scores: Sequence[float]) -> dict[str, float]:
    """ "ece" and "brier" of better and worse answers' scores in turn; pairs with a score that is nan are left out, and none gives nothing."""
    pairs = torch.tensor(list(scores)).view(-1, 2)
    pairs = pairs[~pairs.isnan().any(1)]
    if not len(pairs):
        return {}
    found = judge_pairs(*pairs.unbind(1))
    return {"ece": found.ece, "brier": found.brier}


def judge_verdicts(scores: Tensor, labels: Tensor) -> Judged:
    """Of (N,) logits of being right, and labels in [0, 1]; a label above a half counts as right."""
    loss = verdict_loss(scores, labels)
    true = labels > 0.5
    right = ((scores > 0) == true).double()
    sure = torch.sigmoid(scores.double().abs())
    both = bool(true.any()) and not bool(true.all())
    return Judged(
        accuracy=mean_estimate(right.tolist()),
        nll=float(loss.stats["nll"] / loss.weight),
        ece=ece(sure, right),
        brier=brier_score(sure, right),
        auc=roc_auc(scores.tolist(), true.tolist()) if both else float("nan"),
    )


@torch.no_grad()
def heldout_scores(
    model: Decoder, items: Sequence[Item], cfg: RewardLoaderConfig, *, virtual: int = 0
) -> Tensor:
    """(N,) what a model with its head says of items, read as in training."""
    head, found = getattr(model, NAME), []
    for start in range(0, len(items), cfg.rows):
        batch = batch_of_items(items[start : start + cfg.rows], share=cfg.share, virtual=virtual)
        found.append(scores_of(model, head, batch.to(model.device)).cpu())
    return torch.cat(found)


def judge(scores: Tensor, items: Sequence[Item], level: Level) -> Judged:
    """(N,) scores of items against what they should say."""
    if level == "pair":
        return judge_pairs(*scores.view(-1, 2).unbind(1))
    return judge_verdicts(scores, torch.tensor([label for item in items for label in item.labels]))
