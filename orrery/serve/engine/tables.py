"""Where the tokens of one sequence lie: a table of blocks for each group of layers.

A group is the layers that keep the same tokens: all of them, or a window of the last w. Each group has a pool of its own, and
entry i of a sequence's table for it is the block with tokens i * block_size and on. Blocks that fell wholly out of a window are
given back and their entries are 0, the scratch block, so that place in the table stays place in the sequence.

    tables = BlockTables(pools, root=root_digest("gemma", "tenant 7"))
    tables.adopt(tables.prefix(ids), queried=len(ids))    # start behind what another sequence computed: tables.length tokens
    for copy in tables.grow(n): store.copy_block(*copy)       # slots for n more tokens
    ...                                             # run the model on them
    tables.truncate(length)                         # of the drafts, these were accepted
    tables.commit(ids)                              # certain now: seal whole blocks, forget what no layer will look at
    tables.release()                                # the end, or preemption

Slots that are taken but hold no token are fewer than one block a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orrery.kit.errors import OrreryError
from orrery.serve.engine.blocks import SCRATCH, BlockPool, OutOfBlocks, chain_digest


class Copy(NamedTuple):
    """Copy a whole block within the store of a group, before anything else is written."""

    group: int
    source: int
    target: int


@dataclass(frozen=True)
class Prefix:
    """What is cached of a sequence's beginning: `length` tokens, in these blocks by group (0: not needed any more).

    idle: by group, how many of the blocks are held by nobody, so that taking them up makes fewer free.
    """

    length: int
    blocks: tuple[tuple[int, ...], ...]
    idle: tuple[int, ...]


class BlockTables:
    """The block tables of one sequence.

    Args:
        pools: one for each group of layers, with equal block sizes; none for a model without attention.
        root: where the digests of this sequence's prefixes start (see `root_digest`).
        slack: how far behind the furthest length that was ever committed the sequence may be truncated; layers with a window
            keep so many tokens more. Drafts that were never committed need none.

    Attributes:
        blocks: by group, the table.
        length: tokens that have slots.
        parked: by group, how many blocks `resume` takes; zeros unless the sequence is suspended.
    """

    def __init__(self, pools: Sequence[BlockPool], *, root: bytes = b"", slack: int = 0) -> None:
        assert len({pool.block_size for pool in pools}) < 2, "groups with blocks of different sizes"
        self.pools, self.root, self.slack = tuple(pools), root, slack
        self.block_size = pools[0].block_size if pools else 1
        self.blocks: list[list[int]] = [[] for _ in pools]
        self.length = 0
        self.parked: tuple[int, ...] = (0,) * len(pools)
        self._kept = [0] * len(pools)  # by group, the first entry that is not forgotten
        self._digests: list[bytes] = []  # of the first whole blocks of tokens, sealed or not
        self._sealed = 0  # so many blocks from the first on need no sealing any more

    @property
    def held(self) -> tuple[int, ...]:
        """By group, the blocks that come free if this sequence gives all back."""
        return tuple(pool.sole(blocks) for pool, blocks in zip(self.pools, self.blocks, strict=True))

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """The longest beginning of `ids` of which every group still has what the tokens behind it look at.

        Whole blocks, and never all of `ids`: the last token is computed again, for its logits. A group with a window needs
        only the blocks in the window (and the slack) before the end of the prefix. Nothing is held yet: take it up with `adopt`, before
        anything else is allocated.
        """
        size = self.block_size
        n = (len(ids) - 1) // size if ids and self.pools else 0
        parents = [self.root, *self._chain(ids, n)]
        pieces = [tuple(ids[i * size : (i + 1) * size]) for i in range(n)]
        found = [[pool.find(parents[i + 1], parents[i], pieces[i]) for i in range(n)] for pool in self.pools]
        usable = [self._usable(pool, blocks) for pool, blocks in zip(self.pools, found, strict=True)]
        best = max(i for i in range(n + 1) if all(ends[i] for ends in usable))
        kept = []
        for pool, blocks in zip(self.pools, found, strict=True):
            first = _first_seen(pool, best * size - self.slack)
            kept.append(tuple(block or SCRATCH for block in [None] * first + blocks[first:best]))
        idle = tuple(pool.idle(blocks) for pool, blocks in zip(self.pools, kept, strict=True))
        return Prefix(best * size, tuple(kept), idle)

    def adopt(self, prefix: Prefix, *, queried: int) -> None:
        """Begin an empty sequence of `queried` tokens with a prefix that was found just now, and count the hit."""
        assert not self.length, "a sequence adopts a prefix before it has anything else"
        for group, (pool, blocks) in enumerate(zip(self.pools, prefix.blocks, strict=True)):
            pool.share(blocks)
            pool.count(queried, prefix.length)
            self.blocks[group] = list(blocks)
            self._kept[group] = _first_seen(pool, prefix.length - self.slack)
        self.length = prefix.length
        self._sealed = prefix.length // self.block_size

    def need(self, n: int) -> tuple[int, ...]:
        """By group, the blocks that `grow(n)` takes: new ones, and one where the last block must be copied first."""
        size = self.block_size
        new = -(-(self.length + n) // size) - -(-self.length // size)
        return tuple(new + copy for copy in self.copies) if n else (0,) * len(self.pools)

    @property
    def copies(self) -> tuple[int, ...]:
        """By group, 1 where the next token goes into a block that others see too, so that it is copied first, else 0."""
        if not self.length % self.block_size:
            return (0,) * len(self.pools)
        return tuple(
            int(pool.needs_copy(blocks[-1])) for pool, blocks in zip(self.pools, self.blocks, strict=True)
        )

    def grow(self, n: int) -> list[Copy]:
        """Slots for n more tokens in every group; returns what to copy before they are written.

        Raises:
            OutOfBlocks: a pool has too few; nothing has changed.
        """
        need = self.need(n)
        for pool, count in zip(self.pools, need, strict=True):
            if count > pool.free:
                raise OutOfBlocks(
                    f"{n} more tokens need {count} blocks and {pool.free} of {pool.n_blocks - 1} are free; "
                    "give the cache more memory, or run fewer or shorter requests at a time"
                )
        copies = []
        for group, (pool, blocks, count) in enumerate(zip(self.pools, self.blocks, need, strict=True)):
            if n and self.length % self.block_size:
                blocks[-1], source = pool.writable(blocks[-1])
                if source is not None:
                    copies.append(Copy(group, source, blocks[-1]))
                    count -= 1
            blocks += pool.allocate(count)
        self.length += n
        return copies

    def commit(self, ids: Sequence[int], *, findable: bool = True) -> None:
        """The first len(ids) tokens are computed and certain: make whole blocks findable, forget what fell out of windows.

        findable False leaves nothing for others to find.
        """
        assert len(ids) <= self.length, f"{len(ids)} tokens are certain, {self.length} have slots"
        size, n = self.block_size, len(ids) // self.block_size if findable else 0
        parents = [self.root, *self._chain(ids, n)]
        for i in range(self._sealed, n):
            tokens = tuple(ids[i * size : (i + 1) * size])
            for pool, blocks in zip(self.pools, self.blocks, strict=True):
                if blocks[i] != SCRATCH:
                    pool.seal(blocks[i], parents[i], tokens, root=self.root)
        self._sealed = max(self._sealed, n)
        for group, (pool, blocks) in enumerate(zip(self.pools, self.blocks, strict=True)):
            kept = self._kept[group]
            first = max(kept, _first_seen(pool, len(ids) - self.slack))
            pool.release(blocks[kept:first])
            blocks[kept:first] = [SCRATCH] * (first - kept)
            self._kept[group] = first

    def truncate(self, length: int) -> None:
        """Give up the tokens from position `length` on: drafts that were rejected, or a step back.

        Raises:
            OrreryError: a group has forgotten what a token at `length` looks at; nothing has changed.
        """
        size = self.block_size
        if any(kept > _first_seen(p, length) for p, kept in zip(self.pools, self._kept, strict=True)):
            raise OrreryError(
                f"the sequence cannot go back to {length} tokens: layers with a window have forgotten what they would "
                f"look at; give its tables more slack than {self.slack} tokens, or compute it again"
            )
        n = -(-length // size)
        for pool, blocks in zip(self.pools, self.blocks, strict=True):
            pool.release(blocks[n:])
            del blocks[n:]
        self.length = min(self.length, length)
        del self._digests[length // size :]
        self._sealed = min(self._sealed, length // size)

    def fork(self) -> BlockTables:
        """Another sequence with the same tokens in the same blocks; who writes first to a shared block copies it."""
        twin = BlockTables(self.pools, root=self.root, slack=self.slack)
        for pool, blocks in zip(self.pools, self.blocks, strict=True):
            pool.share(blocks)
        twin.blocks, twin.length = [list(blocks) for blocks in self.blocks], self.length
        twin._kept, twin._digests, twin._sealed = list(self._kept), list(self._digests), self._sealed
        return twin

    def release(self) -> None:
        """Give all back: the sequence has no tokens, and none suspended."""
        for pool, blocks in zip(self.pools, self.blocks, strict=True):
            pool.release(blocks)
        self.blocks, self.length, self.parked = [[] for _ in self.pools], 0, (0,) * len(self.pools)
        self._kept, self._digests, self._sealed = [0] * len(self.pools), [], 0

    def suspend(self) -> None:
        """Give the blocks back but remember which entries had one, when their content was copied elsewhere (`resume`)."""
        for pool, blocks in zip(self.pools, self.blocks, strict=True):
            pool.release(blocks)
        self.parked = tuple(len(b) - k for b, k in zip(self.blocks, self._kept, strict=True))
        self.blocks = [[] for _ in self.pools]

    def resume(self) -> None:
        """Take `parked` new blocks by group for the entries that had one; then copy the content back, in the same order.

        Raises:
            OutOfBlocks: a pool has too few; nothing has changed.
        """
        for pool, count in zip(self.pools, self.parked, strict=True):
            if count > pool.free:
                raise OutOfBlocks(
                    f"{count} blocks are needed to go on and {pool.free} of {pool.n_blocks - 1} are free; wait until others end"
                )
        self.blocks = [
            [SCRATCH] * kept + pool.allocate(count)
            for pool, kept, count in zip(self.pools, self._kept, self.parked, strict=True)
        ]
        self.parked, self._sealed = (0,) * len(self.pools), 0

    def _usable(self, pool: BlockPool, found: Sequence[int | None]) -> list[bool]:
        """For i = 0 .. len(found): whether a token behind the first i blocks, or `slack` before, would find all it looks at."""
        usable, run = [True], 0
        for i, block in enumerate(found, start=1):
            run = 0 if block is None else run + 1
            usable.append(run >= i - _first_seen(pool, i * self.block_size - self.slack))
        return usable

    def _chain(self, ids: Sequence[int], n: int) -> list[bytes]:
        """Digests of the first n whole blocks of ids."""
        size = self.block_size
        for i in range(len(self._digests), n):
            parent = self._digests[-1] if i else self.root
            self._digests.append(chain_digest(parent, ids[i * size : (i + 1) * size]))
        return self._digests[:n]


def _first_seen(pool: BlockPool, length: int) -> int:
    """The first block that a token at position `length` (or a later one) looks at: positions above length - window."""
    return 0 if pool.window is None else max(0, length - pool.window + 1) // pool.block_size
