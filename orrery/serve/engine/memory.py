"""Who holds which blocks: the pools, the store behind them and the rows of the running sequences, moved together.

A sequence enters (behind a cached prefix, or with what was swapped out), grows by what a step reads, settles on what is certain, and
leaves: dropped, or swapped out to come back.
"""

from __future__ import annotations

from collections.abc import Iterable

from orrery.model.decoder import Decoder
from orrery.serve.engine.blocks import SCRATCH, BlockPool
from orrery.serve.engine.checksums import Checksums
from orrery.serve.engine.config import EngineConfig, pool_sizes
from orrery.serve.engine.paged import TableRows
from orrery.serve.engine.scheduler import Item
from orrery.serve.engine.sequence import Sequence
from orrery.serve.engine.store import PagedStore
from orrery.serve.engine.tables import BlockTables

SPARE = 128
"""Places in a row of the block tables beyond the context: drafts that turn out too many lie there."""


class Memory:
    """The cache of one engine."""

    def __init__(self, model: Decoder, config: EngineConfig) -> None:
        size = config.block_size
        sizes = pool_sizes(model, config)
        self.store = PagedStore(model, sizes, block_size=size, dtype=config.kv_dtype)
        self.checksums = Checksums(self.store) if config.checksums else None
        self.windows = tuple(window for window, _ in self.store.groups)
        self.pools = [BlockPool(n, size, window=w) for n, w in zip(sizes, self.windows, strict=True)]
        self.rows = TableRows(
            groups=len(sizes),
            rows=config.max_sequences,
            blocks=-(-(model.cfg.max_positions + SPARE) // size),
            device=model.device,
        )
        self.block_size, self.token_budget = size, config.token_budget
        self._plenty = config.token_budget // size + 2 * config.max_sequences

    @property
    def free(self) -> tuple[int, ...]:
        """Blocks that can be allocated, by group."""
        return tuple(pool.free for pool in self.pools)

    def holds(self, prompt: int, made: int, *, beams: int = 1) -> bool:
        """Whether a prompt and what is made of it fit, alone; beams share the prompt, and have a block each to write to."""
        size = self.block_size
        whole = -(-(prompt + made) // size) + (beams - 1) * (made // size + 2)
        for pool in self.pools:
            # Behind a window lies what a step adds, and what was not given back yet.
            near = whole if pool.window is None else beams * (-(-(pool.window + size) // size) + 1)
            if min(whole, near) >= pool.n_blocks:
                return False
        return True

    # --- what the scheduler is told

    def item(self, sequence: Sequence, *, drafts: int = 0, slots: int = 1) -> Item:
        """A running sequence."""
        tables, request = sequence.tables, sequence.request
        tight = any(pool.free < self._plenty for pool in self.pools)
        return Item(
            ticket=sequence.ticket,
            arrival=sequence.arrival,
            priority=request.priority,
            tenant=request.tenant,
            length=sequence.computed,
            pending=sequence.remaining,
            drafts=drafts,
            fixed=tables.copies,
            held=tables.held if tight else (0,) * len(self.pools),  # only looked at where room is short
            slots=slots,
        )

    def queued(self, sequence: Sequence, *, look: bool, slots: int = 1) -> Item:
        """A waiting one; `look`: among the cached prefixes too."""
        length, fixed = 0, (0,) * len(self.pools)
        if sequence.swapped is not None:
            length, fixed = sequence.computed, sequence.tables.parked
        elif look and sequence.reads_prefix:
            prefix = sequence.tables.prefix(sequence.ids)
            length, fixed = prefix.length, prefix.idle
        request = sequence.request
        return Item(
            ticket=sequence.ticket,
            arrival=sequence.arrival,
            priority=request.priority,
            tenant=request.tenant,
            length=length,
            pending=len(sequence.ids) - length,
            fixed=fixed,
            slots=slots,
        )

    # --- coming, growing, going

    def enter(self, sequence: Sequence) -> None:
        """Let a waiting sequence in: it gets a row, and what of it is cached or was swapped out.

        Raises:
            OutOfBlocks: what was swapped out does not fit; nothing has changed.
        """
        tables = sequence.tables
        if sequence.swapped is not None:
            tables.resume()
            self.store.swap_in(sequence.swapped, _held(tables))
            sequence.swapped = None
            self._note(sequence, 0, sequence.computed)  # other blocks than those it left
        elif sequence.reads_prefix:
            prefix = tables.prefix(sequence.ids)
            tables.adopt(prefix, queried=len(sequence.ids))
            sequence.computed = prefix.length
            if not sequence.preempted:
                sequence.cached = max(min(prefix.length, sequence.prompt) - sequence.virtual, 0)
        sequence.row = self.rows.take()
        self.rows.update(sequence.row, tables.blocks)

    def grow(self, sequence: Sequence, n: int) -> None:
        """Slots for n more tokens behind those that are computed.

        Raises:
            OutOfBlocks: there are none; nothing has changed.
        """
        assert sequence.row is not None
        for copy in sequence.tables.grow(n):
            self.store.copy_block(*copy)
        self.rows.update(sequence.row, sequence.tables.blocks)

    def settle(self, sequence: Sequence, computed: int) -> None:
        """The first `computed` tokens are certain: slots behind them are given up, whole blocks can be found from now on."""
        tables, size = sequence.tables, self.block_size
        if tables.length > computed:
            tables.truncate(computed)
        before, sequence.computed = sequence.computed, computed
        if computed // size > before // size:
            self._note(sequence, before, computed)
            tables.commit(sequence.ids[:computed], findable=sequence.leaves_prefix)

    def keep_path(self, sequence: Sequence, start: int, nodes: Iterable[int]) -> None:
        """Move the keys of the accepted nodes of a tree, kept behind `start`, to the places that their positions have."""
        size = self.block_size
        moves = [(start + node, start + i) for i, node in enumerate(nodes) if node != i]
        if not moves:
            return
        for group, blocks in enumerate(sequence.tables.blocks):
            sources, targets = ([blocks[s // size] * size + s % size for s in side] for side in zip(*moves, strict=True))  # fmt: skip
            self.store.move(group, sources, targets)

    def fork(self, sequence: Sequence, twin: Sequence) -> None:
        """`twin` goes on from where `sequence` is, in the same blocks."""
        twin.tables, twin.computed, twin.cached = sequence.tables.fork(), sequence.computed, sequence.cached
        twin.row = self.rows.take()
        self.rows.update(twin.row, twin.tables.blocks)
        self.store.fork_states(sequence.ticket, twin.ticket)

    def swap_out(self, sequence: Sequence) -> None:
        """It makes room, and keeps what it computed in ordinary memory."""
        sequence.swapped = self.store.swap_out(_held(sequence.tables))
        sequence.tables.suspend()
        self._give_row(sequence)

    def drop(self, sequence: Sequence) -> None:
        """Nothing of it is kept but what others may find."""
        self.restart(sequence)
        self._give_row(sequence)

    def restart(self, sequence: Sequence) -> None:
        """It is read again from its first token, and stays where it is."""
        sequence.tables.release()
        sequence.swapped, sequence.computed = None, 0
        self.store.forget_states(sequence.ticket)

    def _give_row(self, sequence: Sequence) -> None:
        if sequence.row is not None:
            self.rows.give(sequence.row)
            sequence.row = None

    def damaged(self, sequence: Sequence) -> bool:
        """Whether a whole block of it is not what it was; such blocks are found by nobody else from now on. False without checksums."""
        if self.checksums is None:
            return False
        found = False
        for group, (pool, blocks) in enumerate(zip(self.pools, sequence.tables.blocks, strict=True)):
            for block in self.checksums.changed(group, blocks[: sequence.computed // self.block_size]):
                pool.forget(block)
                found = True
        return found

    def _note(self, sequence: Sequence, before: int, computed: int) -> None:
        if self.checksums is not None:
            whole = slice(before // self.block_size, computed // self.block_size)
            for group, blocks in enumerate(sequence.tables.blocks):
                self.checksums.note(group, blocks[whole])

    def check(self, sequences: Iterable[Sequence]) -> None:
        """The ledger of every pool.

        Raises:
            AssertionError: names the block.
        """
        tables = [sequence.tables for sequence in sequences]
        for group, pool in enumerate(self.pools):
            pool.check([t.blocks[group] for t in tables])


def _held(tables: BlockTables) -> list[list[int]]:
    """The blocks of a sequence, without the places that hold none."""
    return [[block for block in blocks if block != SCRATCH] for blocks in tables.blocks]
