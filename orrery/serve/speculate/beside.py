"""Several contexts in one pass: sequences that have caches of their own share the matrix products of a drafter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orrery.model.context import Context, Site, Step


class Beside(Context):
    """The tokens of each part lie end to end, in the order of the parts; each attends by its own rules."""

    def __init__(self, parts: Sequence[Context]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self.sizes = [sum(part.lengths) for part in parts]
        self.lengths = tuple(n for part in parts for n in part.lengths)
        self.positions = torch.cat([part.positions for part in parts])
        self.max_length = max(part.max_length for part in parts)

    def begin(self) -> None:
        super().begin()
        for part in self.parts:
            part.begin()

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pieces = zip(self.parts, q.split(self.sizes), k.split(self.sizes), v.split(self.sizes), strict=True)
        return torch.cat([part.attend(site, *piece) for part, *piece in pieces])

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        return torch.cat(
            [part.recur(site, y, step) for part, y in zip(self.parts, x.split(self.sizes), strict=True)]
        )
