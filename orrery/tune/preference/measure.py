"""What preference learning is measured by, on comparisons that were held out: the loss, how often the better answer is ranked higher, by
how much, and how far the model's distribution has moved from where it began.

    KL = mean over probe positions of KL(pi || start), in nats a token, exact over the vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.model.decoder import Decoder
from orrery.train.basic_losses import kl_divergence
from orrery.tune.preference import config as c
from orrery.tune.preference.answers import Item
from orrery.tune.preference.batches import batch_of_items
from orrery.tune.preference.kto import reference_point
from orrery.tune.preference.loader import Part
from orrery.tune.preference.objective import Known, pairs_loss, thumbs_loss
from orrery.tune.preference.reading import read_items

PROBE_BYTES, PROBES = 32 << 20, 256
"""Room for the start's log-probabilities at probe positions; and their greatest number."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Means over held-out comparisons. `margin` is that of rewards; of thumbs the mean reward up less the mean reward down."""

    loss: float
    accuracy: float
    margin: float
    comparisons: int


@torch.no_grad()
def measured(
    model: Decoder, part: Part, loss: c.PreferenceLoss, *, share: bool = True, virtual: int = 0
) -> Measured:
    """The model on the comparisons of `part`, whose reference is given where the loss asks for one."""
    read = torch.cat(read_items(model, part.items, share=share, virtual=virtual))
    known = _known(part)
    if isinstance(loss, c.Kto):
        others = torch.cat(read_items(model, part.items, share=share, virtual=virtual, others=True))
        found = thumbs_loss(loss, read, known, reference_point(others, torch.cat(part.other)))
        ups = float(found.stats["ups"])
        downs = len(part.items) - ups
        margin = float(found.stats["reward_up"]) / max(ups, 1) - float(found.stats["reward_down"]) / max(
            downs, 1
        )
    else:
        found = pairs_loss(loss, read, known)
        margin = float(found.stats["margin"]) / len(part.items)
    return Measured(
        loss=float(found.sum / found.weight), accuracy=float(found.stats["accuracy"] / found.weight), margin=margin,
        comparisons=len(part.items),
    )  # fmt: skip


def _known(part: Part) -> Known:
    """What the loss asks of the items of a part, all together."""
    written = torch.tensor([len(places) for item in part.items for places in item.learned])
    up = torch.tensor([item.up for item in part.items]) if part.items[0].up is not None else None
    return Known(written, torch.cat(part.reference) if part.reference else None, up)


class Distance:
    """How far a model has moved from where it was when this was made, at some positions of the answers of items.

    Args:
        virtual: ids for an adapter's virtual tokens, which the model reads now and at its start did not.
    """

    def __init__(
        self, model: Decoder, items: Sequence[Item], *, share: bool = True, virtual: int = 0
    ) -> None:
        most = max(1, min(PROBES, PROBE_BYTES // (4 * model.cfg.vocab_size)))
        count, total = 0, 0
        while count < len(items) and total < most:
            total += sum(map(len, items[count].learned))
            count += 1
        self.items, self.share, self.virtual, self.most = tuple(items[:count]), share, virtual, most
        self.start = self._read(model, 0)

    def __call__(self, model: Decoder) -> float:
        """KL(model || start), nats a token."""
        return float(kl_divergence(self._read(model, self.virtual), self.start).mean())

    @torch.no_grad()
    def _read(self, model: Decoder, virtual: int) -> Tensor:
        """(n, V) logits."""
        batch = batch_of_items(self.items, share=self.share, virtual=virtual).to(model.device)
        rows = batch.rows[torch.linspace(0, len(batch.rows) - 1, min(self.most, len(batch.rows))).long()]
        return model.head(model(batch.tokens, batch.context())[rows]).float()
