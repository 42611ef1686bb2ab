"""Checksums of what is cached, to find memory that changes by itself (a broken module, a stray write): a mode for debugging.

A block whose tokens are all certain is never written to again until it is given away, so its checksum is taken once and compared
before every step that reads it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch

from orrery.serve.engine.blocks import SCRATCH
from orrery.serve.engine.store import PagedStore


class Checksums:
    """CRC-32 of whole blocks, by group and block, over all layers of the group."""

    def __init__(self, store: PagedStore) -> None:
        self.store = store
        self.known: dict[tuple[int, int], int] = {}

    def note(self, group: int, blocks: Sequence[int]) -> None:
        """These blocks are whole from now on."""
        for block in blocks:
            if block != SCRATCH:
                self.known[group, block] = self._of(group, block)

    def changed(self, group: int, blocks: Sequence[int]) -> list[int]:
        """Those of these whole blocks that are not what they were; one that is seen for the first time is noted."""
        return [
            block
            for block in blocks
            if block != SCRATCH
            and self.known.setdefault((group, block), now := self._of(group, block)) != now
        ]

    def _of(self, group: int, block: int) -> int:
        total = 0
        for layer in self.store.layers(group):
            for part in self.store.tensors(layer):
                data = part[block].contiguous().view(torch.uint8).cpu().numpy().tobytes()
                total = zlib.crc32(data, total)
        return total
