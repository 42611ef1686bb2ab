"""Prompt and prefix tuning: virtual tokens before a text, whose embeddings, or keys and values, are learned.

    prompt    embeddings of P tokens: the model reads them as if they were words (Lester et al. 2021, arXiv:2104.08691)
    prefix    keys and values of P tokens in every layer: what later tokens see of them (Li & Liang 2021, arXiv:2101.00190)

The virtual tokens are tokens of the sequence: it begins with P placeholders, any id, and what the model computes at positions 0 .. P - 1 is
replaced where it passes by a probe. So they are packed, cached, paged and cut into pieces like all tokens, and texts with different
prefixes lie in one batch. Text begins at position P, as in peft.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.model.adapters.part import Part, Rows
from orrery.model.probe import Probe

PLACEHOLDER = 0
"""The id that virtual tokens have; the model's own numbers for it are not used."""


class Virtual(Part):
    """What passes by one probe at the first P positions: table (P, ...)."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.float(), requires_grad=False)

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        chosen = self.table[rows.positions.clamp(max=len(self.table) - 1)]
        here = (rows.positions < len(self.table)).view(-1, *[1] * (y.ndim - 1))
        return torch.where(here, chosen.to(y.dtype), y)

    def fits(self, module: nn.Module) -> str | None:
        return None if isinstance(module, Probe) else "what passes by a probe"
