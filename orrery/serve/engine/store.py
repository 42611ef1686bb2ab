"""Where keys, values and recurrent states lie: one tensor of blocks a layer, written and read by block and place.

    place = block * block_size + position % block_size

Layers that see the same window share their blocks' numbers: they form a group, with a pool of blocks of its own. Keys and values are
stored as float32, bfloat16, or as int8 or float8 (e4m3) with one factor for each token and kv head:

    factor = max |x| / largest storable,   stored = round(x / factor)

P blocks, K kv heads, D key width, Dv value width, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from orrery.model.cache import CacheSpec
from orrery.model.decoder import Decoder
from orrery.model.mla import MLA

KvDtype = Literal["float32", "bfloat16", "int8", "float8"]
STORED = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8, "float8": torch.float8_e4m3fn,
}  # fmt: skip
LARGEST = {torch.int8: 127.0, torch.float8_e4m3fn: 448.0}
"""Of the types that are stored with a factor."""


def latent_layers(model: Decoder) -> list[MLA]:
    """Layers of latent attention that can be absorbed: not those whose up-projection is quantised or adapted, and so has no weight
    to move to the other side."""
    return [m for m in model.modules() if isinstance(m, MLA) and isinstance(m.kv_b_proj, nn.Linear)]


@contextmanager
def absorbed(layers: Sequence[MLA]) -> Iterator[None]:
    """Latent attention in its absorbed form, which keeps one vector a token instead of every head's keys and values."""
    before = [layer.absorbed for layer in layers]
    for layer in layers:
        layer.absorbed = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.absorbed = was


def cache_groups(model: Decoder) -> dict[int | None, list[CacheSpec]]:
    """Layers by the window they see, those that see everything first. A window as long as the context is none."""
    with absorbed(latent_layers(model)):
        specs = model.cache_spec()
    found: dict[int | None, list[CacheSpec]] = {}
    for spec in specs:
        endless = spec.window is None or spec.window >= model.cfg.max_positions
        found.setdefault(None if endless else spec.window, []).append(spec)
    return dict(sorted(found.items(), key=lambda item: (item[0] is not None, item[0])))


def bytes_per_token(specs: Sequence[CacheSpec], dtype: KvDtype) -> int:
    """What one token takes in these layers, factors included."""
    stored = STORED[dtype]
    factors = 4 * sum(s.kv_heads * (1 if s.shared else 2) for s in specs) if stored in LARGEST else 0
    return sum(s.bytes_per_token(stored) for s in specs) + factors


@dataclass(frozen=True)
class Swapped:
    """The content of a sequence's blocks in ordinary memory: by layer, tensors of (blocks, block, ...)."""

    content: dict[int, list[Tensor]]


class PagedStore:
    """Keys and values of all layers, by group; recurrent states by sequence.

    Args:
        n_blocks: blocks of each group, in the order of `cache_groups`; block 0 is scratch, nobody's.
    """

    def __init__(
        self, model: Decoder, n_blocks: Sequence[int], *, block_size: int = 16, dtype: KvDtype = "float32"
    ) -> None:
        self.block_size, self.device, stored = block_size, model.device, STORED[dtype]
        self.groups = list(cache_groups(model).items())
        self.group_of = {s.layer: g for g, (_, specs) in enumerate(self.groups) for s in specs}
        self.keys: dict[int, Tensor] = {}  # by layer: (P, block, K, D)
        self.values: dict[int, Tensor] = {}  # (P, block, K, Dv); absent where the keys hold them
        self.key_scales: dict[int, Tensor] = {}  # (P, block, K); only of types with a factor
        self.value_scales: dict[int, Tensor] = {}
        self.states: dict[
            nn.Module, dict[int, tuple[int, Any]]
        ] = {}  # by layer and ticket: tokens seen, state
        for (_, specs), blocks in zip(self.groups, n_blocks, strict=True):
            for spec in specs:
                shape = (blocks, block_size, spec.kv_heads)
                sides = [(self.keys, self.key_scales, spec.key_dim)]
                if not spec.shared:
                    sides.append((self.values, self.value_scales, spec.value_dim))
                for numbers, scales, width in sides:
                    numbers[spec.layer] = _zeros((*shape, width), stored, self.device)
                    if stored in LARGEST:
                        scales[spec.layer] = _zeros(shape, torch.float32, self.device)

    @property
    def bytes(self) -> int:
        """Reserved for keys and values."""
        return sum(x.nbytes for layer in self.keys for x in self.tensors(layer))

    def tensors(self, layer: int) -> list[Tensor]:
        """All that is kept of a layer, each (P, block, ...); 8-bit floats as bytes, which every operation takes."""
        kept = (part.get(layer) for part in (self.keys, self.values, self.key_scales, self.value_scales))
        return [x.view(torch.uint8) if x.dtype == torch.float8_e4m3fn else x for x in kept if x is not None]

    def layers(self, group: int) -> list[int]:
        """The layers of a group."""
        return [spec.layer for spec in self.groups[group][1]]

    # --- tokens

    def write(self, layer: int, places: Tensor, k: Tensor, v: Tensor) -> None:
        """Keys (T, K, D) and values (T, K, Dv) of one layer to `places` (T,)."""
        _write(self.keys[layer], self.key_scales.get(layer), places, k)
        if layer in self.values:
            _write(self.values[layer], self.value_scales.get(layer), places, v)

    def move(self, group: int, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy tokens from places to places; all are read before any is written."""
        for layer in self.layers(group):
            for x in self.tensors(layer):
                rows = x.flatten(0, 1)
                rows[list(targets)] = rows[list(sources)]

    # --- blocks

    def copy_block(self, group: int, source: int, target: int) -> None:
        """Make block `target` equal to `source` in every layer of the group (before a shared block is written to)."""
        for layer in self.layers(group):
            for x in self.tensors(layer):
                x[target] = x[source]

    def swap_out(self, blocks: Sequence[Sequence[int]]) -> Swapped:
        """A copy of these blocks, a list for each group, in ordinary memory."""
        return Swapped(
            {
                layer: [x[list(ids)].cpu() for x in self.tensors(layer)]
                for group, ids in enumerate(blocks)
                for layer in self.layers(group)
            }
        )

    def swap_in(self, swapped: Swapped, blocks: Sequence[Sequence[int]]) -> None:
        """Write it back, into other blocks of the same number."""
        for group, ids in enumerate(blocks):
            for layer in self.layers(group):
                for x, content in zip(self.tensors(layer), swapped.content[layer], strict=True):
                    x[list(ids)] = content.to(x.device)

    # --- recurrent states

    def fork_states(self, source: int, target: int) -> None:
        """Ticket `target` goes on from the states of `source`; states are never written to, so both may hold the same."""
        for states in self.states.values():
            if source in states:
                states[target] = states[source]

    def forget_states(self, ticket: int) -> None:
        """The sequence is over, or begins anew."""
        for states in self.states.values():
            states.pop(ticket, None)


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros. On a CPU the memory is the system's zeroed pages, which are not taken before they are written; torch would write them."""
    count = math.prod(shape) * dtype.itemsize
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(count, np.uint8)).view(dtype).view(shape)
    return torch.zeros(count, dtype=torch.uint8, device=device).view(dtype).view(shape)


def _write(stored: Tensor, scales: Tensor | None, places: Tensor, x: Tensor) -> None:
    rows = stored.flatten(0, 1)
    if scales is None:
        rows.index_copy_(0, places, x.to(stored.dtype))
        return
    x = x.float()
    factors = x.abs().amax(-1) / LARGEST[stored.dtype]  # (T, K)
    scales.flatten(0, 1).index_copy_(0, places, factors)
    x = x / factors.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    if stored.dtype == torch.int8:
        rows.index_copy_(0, places, x.round().to(torch.int8))
    else:
        rows.view(torch.uint8).index_copy_(0, places, x.to(stored.dtype).view(torch.uint8))
