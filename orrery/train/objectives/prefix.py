"""Prefix attention: a beginning is read in both directions, the rest causally (Raffel et al. 2019, 3.2.1).

query i sees key j  if  j <= i  or  j < prefix
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orrery.model.context import Context, Site, Step, visible
from orrery.model.scaled_dot_product import fast_attention


class PrefixPacked(Context):
    """Sequences laid end to end; the first `prefixes[n]` tokens of sequence n are seen by all of its tokens."""

    def __init__(
        self, lengths: Sequence[int], prefixes: Sequence[int], *, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.lengths, self.prefixes = tuple(lengths), tuple(prefixes)
        self.max_length = max(self.lengths)
        self.positions = torch.cat([torch.arange(n, device=device) for n in self.lengths])

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(*(x.split(self.lengths) for x in (q, k, v)), self.prefixes, strict=True)
        return torch.cat([self._attend_one(site, *part) for part in parts])

    def _attend_one(self, site: Site, q: Tensor, k: Tensor, v: Tensor, prefix: int) -> Tensor:
        key = ("prefix", site.window, site.bias is not None, len(q), prefix)
        mask = self.once(key, lambda: self._mask(site, len(q), prefix))
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H or K, L, D)
        return fast_attention(site, q, k, v, mask, causal=False)[0].transpose(0, 1)

    def _mask(self, site: Site, length: int, prefix: int) -> Tensor:
        places = torch.arange(length, device=self.positions.device)
        seen = visible(places, places, window=site.window)
        seen |= (places < prefix) & visible(places, places, window=site.window, causal=False)
        return seen if site.bias is None else site.bias(places, places).masked_fill(~seen, -torch.inf)

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        return torch.cat([step(part, None)[0] for part in x.split(self.lengths)])
