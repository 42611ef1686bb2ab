"""The loss of a batch of answers: log-probabilities read once, given to the function that the settings name.

Sums besides the loss, all over pairs (or thumbs): implicit rewards, their margin and ranking accuracy, the log-probability of each
side, and how far it has drifted from the reference. `nll` is the loss again, which a validation is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from orrery.model.decoder import Decoder
from orrery.train.loss import Loss
from orrery.tune.preference import config as c
from orrery.tune.preference.batches import AnswerBatch
from orrery.tune.preference.direct import apo_down, apo_zero, dpo, hinge, ipo, robust_dpo
from orrery.tune.preference.kto import kto, reference_point
from orrery.tune.preference.loader import PairLoader
from orrery.tune.preference.reading import answer_logprobs
from orrery.tune.preference.reference_free import cpo, imitating, orpo, simpo


@dataclass
class Objective:
    """The loss of a run (`train.step.OwnLoss`).

    Attributes:
        others: where KTO finds the answers to other prompts of all micro-batches of a step: one reference point for them all.
    """

    loss: c.PreferenceLoss
    others: PairLoader | None = None
    _point: tuple[int, Tensor] | None = field(default=None, repr=False)

    def context(self, batch: AnswerBatch) -> Any:
        """What each token may see."""
        return batch.context()

    def __call__(self, model: Decoder, batch: AnswerBatch, ctx: Any) -> Loss:
        read = answer_logprobs(model, batch, ctx)
        known = Known(batch.written, batch.reference, batch.up)
        if isinstance(self.loss, c.Kto):
            return thumbs_loss(self.loss, read, known, self._reference_point(model, batch))
        return pairs_loss(self.loss, read, known)

    def _reference_point(self, model: Decoder, batch: AnswerBatch) -> Tensor:
        """Of the batch's step, read once before its first gradient."""
        if self._point is None or self._point[0] != batch.step:
            assert self.others is not None
            read, known = [], []
            with torch.no_grad():
                for micro in range(self.others.config.micro_batches):
                    others, reference = self.others.others(batch.step, micro)
                    read.append(answer_logprobs(model, others.to(model.device)))
                    known.append(reference.to(model.device))
            self._point = (batch.step, reference_point(torch.cat(read), torch.cat(known)))
        return self._point[1]


class Known(NamedTuple):
    """Of answers (A,): how many ids each has to be written, what the reference says of it, and, of thumbs, whether it is up."""

    written: Tensor
    reference: Tensor | None
    up: Tensor | None = None


def pairs_loss(loss: c.PreferenceLoss, read: Tensor, known: Known) -> Loss:
    """The loss of pairs whose answers have log-probabilities `read` (A,): better and worse by turns."""
    won, lost = read.unflatten(0, (-1, 2)).unbind(1)
    lengths = (known.written[0::2], known.written[1::2])
    four = (won, lost, *_sides(known.reference)) if known.reference is not None else None
    match loss:
        case c.Dpo():
            found = dpo(
                *_four(four),
                beta=loss.beta,
                label_smoothing=loss.label_smoothing,
                lengths=lengths if loss.per_token else None,
            )
            found = imitating(found, won, lengths[0], weight=loss.imitate) if loss.imitate else found
        case c.Robust():
            found = robust_dpo(*_four(four), beta=loss.beta, flipped=loss.flipped)
        case c.Ipo():
            found = ipo(*_four(four), beta=loss.beta, lengths=lengths if loss.per_token else None)
        case c.Hinge():
            found = hinge(*_four(four), beta=loss.beta)
        case c.Apo():
            found = (apo_zero if loss.towards == "zero" else apo_down)(*_four(four), beta=loss.beta)
        case c.Orpo():
            found = orpo(won, lost, lengths, weight=loss.weight)
        case c.Simpo():
            found = simpo(
                won, lost, lengths, beta=loss.beta, gamma=loss.gamma, label_smoothing=loss.label_smoothing
            )
        case c.Cpo():
            found = cpo(
                won, lost, lengths, beta=loss.beta, alpha=loss.alpha, label_smoothing=loss.label_smoothing
            )
        case c.Kto():
            raise AssertionError("thumbs have a loss of their own")
    sums = {
        "logp_chosen": won.detach().sum(),
        "logp_rejected": lost.detach().sum(),
        "nll": found.sum.detach(),
    }
    if four is not None:
        sums |= {
            "drift_chosen": (won - four[2]).detach().sum(),
            "drift_rejected": (lost - four[3]).detach().sum(),
        }
    return Loss(found.sum, found.weight, {**found.stats, **sums})


def thumbs_loss(loss: c.Kto, read: Tensor, known: Known, point: Tensor) -> Loss:
    """The loss of thumbs on answers with log-probabilities `read` (A,)."""
    assert known.reference is not None and known.up is not None
    found = kto(
        read,
        known.reference,
        known.up,
        point,
        beta=loss.beta,
        desirable=loss.desirable,
        undesirable=loss.undesirable,
    )
    drift = (read - known.reference).detach()
    sums = {
        "drift_up": drift[known.up].sum(), "drift_down": drift[~known.up].sum(), "nll": found.sum.detach(),
        "logp_up": read.detach()[known.up].sum(), "logp_down": read.detach()[~known.up].sum(),
    }  # fmt: skip
    return Loss(found.sum, found.weight, {**found.stats, **sums})


def _sides(reference: Tensor) -> tuple[Tensor, Tensor]:
    better, worse = reference.unflatten(0, (-1, 2)).unbind(1)
    return better, worse


def _four(four: tuple[Tensor, Tensor, Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert four is not None, "this loss compares with a reference, and the batch has none"
    return four
