"""A tree of draft tokens behind one row of a contiguous cache.

Node i lies in slot start + i and stands at position start + depth(i); it sees all tokens before `start` and its own
ancestors. So one pass of the model reads every branch (SpecInfer, Miao et al. 2024, arXiv:2305.09781, section 4.2).
Afterwards `keep` moves the path that holds to the slots behind `start`, and the rest is overwritten by the next pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.cache import KVCache
from orrery.model.context import Context, Site, Step, visible
from orrery.model.scaled_dot_product import fast_attention


class TreeCached(Context):
    """Nodes `first`, `first` + 1 ... of a tree; those before `first` are in the cache already.

    Args:
        parents: of all nodes so far, -1 for the token in slot start - 1.

    Raises:
        OrreryError: they do not fit the cache, or (from a recurrent layer) a state cannot branch.
    """

    def __init__(
        self, cache: KVCache, start: int, parents: Sequence[int], *, first: int = 0, row: int = 0
    ) -> None:
        super().__init__()
        end = start + len(parents)
        if end > cache.capacity:
            raise OrreryError(
                f"a tree up to slot {end} does not fit a cache of {cache.capacity}; make a larger one"
            )
        self.cache, self.row, self.start, self.first, self.end = cache, row, start, first, end
        depths: list[int] = []
        ancestors = torch.zeros(
            len(parents), len(parents), dtype=torch.bool
        )  # (node, node): is it one, or itself
        for node, parent in enumerate(parents):
            depths.append(0 if parent < 0 else depths[parent] + 1)
            if parent >= 0:
                ancestors[node] = ancestors[parent]
            ancestors[node, node] = True
        self.ancestors = ancestors[first:].to(cache.device)
        self.places = torch.cat([torch.arange(start), start + torch.tensor(depths)]).to(
            cache.device
        )  # of every slot
        self.positions = self.places[start + first :]
        self.lengths = (len(parents) - first,)
        self.max_length = start + max(depths) + 1

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys, values = (
            self.cache.keys[site.index][self.row],
            self.cache.values[site.index][self.row],
        )  # (capacity, K, D)
        keys[self.start + self.first : self.end] = k
        if self.cache.values[site.index] is not self.cache.keys[site.index]:
            values[self.start + self.first : self.end] = v
        q, k, v = (x.transpose(0, 1)[None] for x in (q, keys[: self.end], values[: self.end]))
        out = fast_attention(site, q, k, v, self.mask(site), causal=False)
        return out[0].transpose(0, 1)

    def mask(self, site: Site) -> Tensor:
        """(n, slots) bool, or (H, n, slots) float where the site has a bias."""

        def make() -> Tensor:
            seen = visible(self.positions, self.places, window=site.window)
            seen[:, self.start :] &= self.ancestors
            if site.bias is None:
                return seen
            return site.bias(self.positions, self.places).masked_fill(~seen, -torch.inf)

        return self.once(("tree", site.window, site.bias is not None), make)

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        raise OrreryError(
            "a recurrent state cannot branch; verify one chain at a time in a model with recurrent layers"
        )


def keep(cache: KVCache, start: int, nodes: Sequence[int], *, row: int = 0) -> None:
    """Make the path `nodes` of a tree behind `start` the tokens that follow there, and forget the others."""
    for x in cache._tensors():
        x[row, start : start + len(nodes)] = x[row, [start + node for node in nodes]]
    cache.lengths[row] = start + len(nodes)


def roomier(cache: KVCache, model: Any, capacity: int) -> KVCache:
    """The cache of `model` if it has room for `capacity` tokens a row, or else a copy that has at least twice its own."""
    if cache.capacity >= capacity:
        return cache
    larger = KVCache(model, rows=cache.rows, capacity=max(capacity, 2 * cache.capacity))
    for new, old in zip(larger._tensors(), cache._tensors(), strict=True):
        for row, length in enumerate(cache.lengths):
            new[row, :length] = old[row, :length]
    larger.lengths = list(cache.lengths)
    return larger
