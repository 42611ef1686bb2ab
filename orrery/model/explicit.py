"""The maths of `Packed` with the attention probabilities made visible, for looking inside and for editing."""

from __future__ import annotations

from torch import Tensor

from orrery.model.context import Site
from orrery.model.packed import Whole
from orrery.model.scaled_dot_product import attention_probabilities, weighted_values


class Explicit(Whole):
    """Each layer's `pattern` probe sees (H, L, L) probabilities, once for every sequence, in order.

    What a hook on the probe returns is what the values are weighted by.
    """

    def _runs(self) -> tuple[tuple[int, int], ...]:
        return tuple((1, length) for length in self.lengths)

    def _attend_run(self, site: Site, q: Tensor, k: Tensor, v: Tensor, run: tuple[int, int]) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H or K, L, D)
        probabilities = attention_probabilities(site, q, k, self.mask(site, run[1]), causal=self.causal)
        shown = site.pattern(probabilities[0])
        return weighted_values(shown[None], v, site.dropout)[0].transpose(0, 1)  # (L, H, Dv)

    def attend_memory(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.read_memory().attend(site, q, k, v, self, self._attend_source)

    def _attend_source(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H or K, Q or S, D)
        shown = site.pattern(attention_probabilities(site, q, k, None, causal=False)[0])
        return weighted_values(shown[None], v, site.dropout)[0].transpose(0, 1)  # (Q, H, Dv)
