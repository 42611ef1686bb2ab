"""A head that proposes a block of tokens in one pass of one layer: cheaper than a chain, and blind to its own guesses.

(Stern et al. 2018, arXiv:1811.03115, blockwise parallel decoding; Wang et al. 2018, arXiv:1808.08583.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.model.drafters import SemiAutoregressive
from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView
from orrery.serve.speculate.grow import Plant


class SemiAutoregressiveDrafter:
    """Drafts with the block of `net`."""

    reads_hidden = True

    def __init__(self, net: SemiAutoregressive) -> None:
        self.net = net

    @torch.inference_mode()
    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        able = [view for view in views if min(limit, view.room) > 0 and view.hidden is not None]
        if not able:
            return [NOTHING] * len(views)
        hidden = torch.stack([view.hidden for view in able if view.hidden is not None])
        states = self.net(
            hidden, torch.tensor([view.ids[-1] for view in able], device=hidden.device)
        )  # (n, k, d)
        n = min(limit, self.net.size)
        logits = self.net.head(states[:, :n].flatten(0, 1)).float().cpu().unflatten(0, (-1, n))
        drafts = {}
        for view, rows in zip(able, logits, strict=True):
            plant = Plant(view, (1,) * n, n)
            for row in rows:
                if plant.grows:
                    plant.branch(row[None])
            drafts[view.ticket] = plant.draft()
        return [drafts.get(view.ticket, NOTHING) for view in views]

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Nothing: the next view has the last state."""

    def forget(self, ticket: int) -> None:
        """Nothing is kept of a sequence."""
