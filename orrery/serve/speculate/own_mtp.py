"""The model's own multi-token-prediction modules draft (DeepSeek-V3, arXiv:2412.19437, section 2.2 and 5.4.3).

Module k reads, at place i, the state of module k - 1 there and the token k + 1 places on, and guesses the one after that. At
the last place all of these tokens but the first are guesses of the modules before: those places are read again when the
true tokens are known, `depth` of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.model.cache import Cached, CacheSpec, KVCache
from orrery.model.decoder import Decoder
from orrery.serve.speculate.beside import Beside
from orrery.serve.speculate.drafter import NOTHING, Draft, DraftView
from orrery.serve.speculate.features import SPARE, Features
from orrery.serve.speculate.grow import Plant
from orrery.serve.speculate.tree_cache import roomier


class MtpDrafter:
    """Drafts one token with each module of `model`.

    Raises:
        OrreryError: the model has none, or their layers are recurrent.
    """

    reads_hidden = True

    def __init__(self, model: Decoder) -> None:
        if not len(model.mtp):
            raise OrreryError(
                "this model has no multi-token-prediction modules (mtp_heads is 0); choose another kind of speculation"
            )
        if any(module.block.attn is None for module in model.mtp):  # type: ignore[missing-attribute]
            raise OrreryError(
                "the model's multi-token-prediction modules are recurrent, which cannot take a guess back"
            )
        self.model, self.depth = model, len(model.mtp)
        self.device, self.dtype = model.device, model.dtype
        self._features: dict[int, Features] = {}

    def cache_spec(self) -> list[CacheSpec]:
        """What the modules keep for each token."""
        return [module.block.attn.cache_spec() for module in self.model.mtp]  # type: ignore[missing-attribute]

    @torch.inference_mode()
    def propose(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        able = [v for v in views if min(limit, v.room) > 0 and len(self._features.get(v.ticket, ()))]
        drafts = dict(zip((v.ticket for v in able), self._draft(able, limit) if able else [], strict=True))
        return [drafts.get(view.ticket, NOTHING) for view in views]

    def _draft(self, views: Sequence[DraftView], limit: int) -> list[Draft]:
        plants = [Plant(view, (1,) * min(limit, self.depth), limit) for view in views]
        features = [self._features[view.ticket] for view in views]
        sizes = [len(f) for f in features]
        ends = (torch.tensor(sizes).cumsum(0) - 1).to(self.device)
        hidden = torch.cat([f.states() for f in features])
        for f in features:
            end = f.read + len(f)
            if f.cache is None:
                f.cache = KVCache(self, rows=1, capacity=end + SPARE)  # type: ignore[bad-argument-type]
            f.cache = roomier(f.cache, self, end)
        ctx = Beside([Cached(f.cache, [(0, f.read, n)]) for f, n in zip(features, sizes, strict=True)])  # type: ignore[bad-argument-type]
        for k, module in enumerate(self.model.mtp):
            tokens = [
                token for plant, n in zip(plants, sizes, strict=True) for token in self._ahead(plant, n, k)
            ]
            hidden = module(hidden, torch.tensor(tokens, device=self.device), ctx)
            logits = self.model.head(hidden[ends]).float().cpu()
            for plant, row in zip(plants, logits.split(1), strict=True):
                if plant.grows:
                    plant.branch(row)
        for f, n in zip(features, sizes, strict=True):
            f.settle(max(0, n - (self.depth - 1)))
        return [plant.draft() for plant in plants]

    def _ahead(self, plant: Plant, n: int, k: int) -> list[int]:
        """The tokens k + 1 places on from the last n that the model has read; where there is none yet, the last there is."""
        known = [*plant.view.ids[len(plant.view.ids) - n :], *plant.ids][k:]
        return (known + known[-1:] * n)[:n]

    def accepted(self, ticket: int, ids: Sequence[int], hidden: Tensor | None) -> None:
        """Keep the model's states for the next draft."""
        if hidden is not None:
            self._features.setdefault(ticket, Features()).add(hidden)

    def forget(self, ticket: int) -> None:
        self._features.pop(ticket, None)
