"""An engine without a model: real pools, tables and plans over a store that remembers what was written where.

The "key" of a token is a hash of it and all tokens before it, and the next token is read off the last key. So a block handed to two
writers, lost, or found for the wrong prefix shows at once: `step` reads back everything that the new tokens see, and a sequence
that was left alone must say what `alone` says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from orrery.serve.engine.blocks import SCRATCH, BlockPool, OutOfBlocks, root_digest
from orrery.serve.engine.scheduler import Item, Limits, Plan, SchedulerState, plan
from orrery.serve.engine.tables import BlockTables

VOCAB = 3


def keys(ids: Sequence[int], known: Sequence[int] = ()) -> list[int]:
    """A number for each token that depends on it and on all before; `known` are the first ones, if one has them."""
    out = list(known)
    for token in ids[len(out) :]:
        out.append(hash((out[-1] if out else 1, token)))
    return out


def alone(prompt: Sequence[int], n: int) -> list[int]:
    """The prompt and n tokens more."""
    ids = list(prompt)
    for _ in range(n):
        ids.append(keys(ids)[-1] % VOCAB)
    return ids


@dataclass(eq=False)
class Simulated:
    """A sequence under way: its tokens and their keys, where it is, and when things happened to it."""

    ticket: int
    ids: list[int]
    end: int
    tables: BlockTables
    arrival: int
    priority: int = 0
    tenant: str = ""
    prompt: int = 0
    drafts: int = 0
    changed: bool = False
    keys: list[int] = field(default_factory=list)
    parked: list[list[list[int]]] | None = None  # by group, contents of blocks in ordinary memory
    started: int | None = None
    preempted: int = 0
    furthest: int = 0  # tokens that were ever committed since it has its blocks


class Simulation:
    """Requests in, steps, tokens out; every plan is checked against its limits."""

    def __init__(
        self, limits: Limits, *, n_blocks: int, slack: int = 0, seed: int = 0, prefix_cache: bool = True
    ) -> None:
        self.limits, self.slack, self.prefix_cache = limits, slack, prefix_cache
        self.pools = [BlockPool(n_blocks, limits.block_size, window=w) for w in limits.windows]
        self.stores = [[[0] * limits.block_size for _ in range(n_blocks)] for _ in limits.windows]
        self.random = random.Random(seed)
        self.running: list[Simulated] = []
        self.queued: list[Simulated] = []
        self.served: dict[str, int] = {}
        self.steps = self.tickets = self.tokens = self.preemptions = self.put_back = self.hits = 0
        self.finished: dict[int, tuple[int, Simulated]] = {}  # ticket -> the step it ended in
        self.trace: list[Plan] = []

    # -- what one can do to it --------------------------------------------------------------------------------------

    def add(
        self, prompt: Sequence[int], n: int, *, priority: int = 0, tenant: str = "", drafts: int = 0
    ) -> int:
        """Queue a request for n tokens; returns its ticket."""
        tables = BlockTables(self.pools, root=root_digest(tenant), slack=self.slack)
        sequence = Simulated(
            self.tickets, list(prompt), len(prompt) + n, tables, self.steps, priority, tenant, len(prompt)
        )
        sequence.drafts, sequence.keys = drafts, keys(prompt)
        self.queued.append(sequence)
        self.tickets += 1
        return sequence.ticket

    def cancel(self, sequence: Simulated) -> None:
        """Take it out, wherever it is; also how a sequence ends."""
        (self.running if sequence in self.running else self.queued).remove(sequence)
        sequence.tables.release()

    def fork(self, sequence: Simulated) -> None:
        """Another running sequence with the same past and another last token."""
        twin = Simulated(
            self.tickets, list(sequence.ids), sequence.end, sequence.tables.fork(), sequence.arrival
        )
        twin.priority, twin.tenant, twin.prompt = sequence.priority, sequence.tenant, sequence.prompt
        twin.drafts, twin.changed, twin.furthest = sequence.drafts, True, sequence.furthest
        twin.ids[-1] = (twin.ids[-1] + 1) % VOCAB
        twin.keys = keys(twin.ids, sequence.keys[:-1])
        self.running.append(twin)
        self.tickets += 1

    def back(self, sequence: Simulated, n: int) -> None:
        """Take n tokens back and say something else instead; no further than `slack` behind what was committed."""
        length = len(sequence.ids) - n
        sequence.tables.truncate(length - 1)
        del sequence.ids[length:], sequence.keys[length - 1 :]
        sequence.ids[-1] = (sequence.ids[-1] + 1) % VOCAB
        sequence.keys = keys(sequence.ids, sequence.keys)
        sequence.changed = True

    def preempt(self, sequence: Simulated, how: str) -> None:
        """A running sequence gives its blocks back and queues again."""
        self.running.remove(sequence)
        self.queued.append(sequence)
        sequence.preempted += 1
        self.preemptions += 1
        if how == "recompute":
            sequence.tables.release()
            sequence.furthest = 0
            return
        sequence.parked = [
            [list(store[block]) for block in blocks if block != SCRATCH]
            for store, blocks in zip(self.stores, sequence.tables.blocks, strict=True)
        ]
        sequence.tables.suspend()

    def step(self) -> Plan:
        """Plan, check the plan, do it."""
        state = SchedulerState(
            step=self.steps,
            running=tuple(self._running_item(s) for s in self.running),
            queued=tuple(self._queued_item(s) for s in self.queued),
            free=tuple(pool.free for pool in self.pools),
            served=self.served,
        )
        todo = plan(state, self.limits)
        self._check(todo, state)
        self.trace.append(todo)
        sequences = {s.ticket: s for s in (*self.running, *self.queued)}
        for ticket, how in todo.preempt:
            self.preempt(sequences[ticket], how)
        for ticket, n in todo.work:
            sequence = sequences[ticket]
            if ticket in todo.admit and not self._enter(sequence, n, todo):
                continue
            self._compute(sequence, n)
        self.served = dict(todo.served)
        self.steps += 1
        return todo

    def run(self, most: int = 100_000) -> None:
        """Until everything has ended."""
        while self.running or self.queued:
            self.step()
            assert self.steps < most, "this does not end"

    def check(self) -> None:
        """The ledger of every pool."""
        for group, pool in enumerate(self.pools):
            pool.check([s.tables.blocks[group] for s in (*self.running, *self.queued)])

    # -- how it does it ---------------------------------------------------------------------------------------------

    def _item(self, s: Simulated, length: int, fixed: tuple[int, ...], held: tuple[int, ...]) -> Item:
        pending = len(s.ids) - length
        drafts = min(s.drafts, s.end - len(s.ids) - 1) if pending == 1 else 0
        return Item(
            ticket=s.ticket,
            arrival=s.arrival,
            priority=s.priority,
            tenant=s.tenant,
            length=length,
            pending=pending,
            drafts=max(drafts, 0),
            fixed=fixed,
            held=held,
        )

    def _running_item(self, s: Simulated) -> Item:
        return self._item(s, s.tables.length, s.tables.copies, s.tables.held)

    def _queued_item(self, s: Simulated) -> Item:
        if s.parked is not None:
            return self._item(s, s.tables.length, s.tables.parked, ())
        if not self.prefix_cache:
            return self._item(s, 0, (0,) * len(self.pools), ())
        prefix = s.tables.prefix(s.ids)
        return self._item(s, prefix.length, prefix.idle, ())

    def _enter(self, s: Simulated, n: int, todo: Plan) -> bool:
        """From the queue to the running; not if blocks of a prefix it or another counted on went with one preempted just now."""
        try:
            if s.parked is not None:
                s.tables.resume()
            elif self.prefix_cache:
                prefix = s.tables.prefix(s.ids)
                s.tables.adopt(prefix, queried=len(s.ids))
                self.hits += prefix.length
            if any(need > pool.free for need, pool in zip(s.tables.need(n), self.pools, strict=True)):
                raise OutOfBlocks("none left")
        except OutOfBlocks:
            assert todo.preempt, "the plan counted blocks that were not there"
            if s.parked is None:
                s.tables.release()
            elif any(s.tables.blocks):
                s.tables.suspend()
            self.put_back += 1
            return False
        for store, blocks, parked in zip(self.stores, s.tables.blocks, s.parked or (), strict=False):
            for block, content in zip([b for b in blocks if b != SCRATCH], parked, strict=True):
                store[block] = content
        s.parked = None
        s.started = self.steps if s.started is None else s.started
        self.queued.remove(s)
        self.running.append(s)
        return True

    def _compute(self, s: Simulated, n: int) -> None:
        """The model: write n keys (drafts among them), read what they see, take the next token."""
        start, size = s.tables.length, self.limits.block_size
        pending = len(s.ids) - start
        drafts = [self.random.randrange(VOCAB) for _ in range(n - pending)]
        ids = s.ids + drafts
        values = keys(ids, s.keys)
        for group, source, target in s.tables.grow(n):
            self.stores[group][target] = list(self.stores[group][source])
        for window, store, blocks in zip(self.limits.windows, self.stores, s.tables.blocks, strict=True):
            for p in range(start, start + n):
                store[blocks[p // size]][p % size] = values[p]
            seen = 0 if window is None else max(0, start - window + 1)
            row = [key for block in blocks[seen // size :] for key in store[block]]
            skip = seen // size * size
            assert row[seen - skip : start + n - skip] == values[seen : start + n], (
                f"{s.ticket} reads others' keys"
            )
        self.tokens += n
        if n >= pending:  # the last known token was computed: take the next, and drafts as long as they agree
            for i in range(len(drafts) + 1):
                s.ids.append(values[len(s.ids) - 1] % VOCAB)
                if i == len(drafts) or s.ids[-1] != drafts[i]:
                    break
            s.keys = keys(s.ids, s.keys)
            s.tables.truncate(len(s.ids) - 1)
        s.tables.commit(s.ids[: s.tables.length])
        s.furthest = max(s.furthest, s.tables.length)
        if len(s.ids) >= s.end:
            self.finished[s.ticket] = (self.steps, s)
            self.cancel(s)

    def _check(self, todo: Plan, state: SchedulerState) -> None:
        limits = self.limits
        running, queued = {i.ticket: i for i in state.running}, {i.ticket: i for i in state.queued}
        preempted, work = {ticket for ticket, _ in todo.preempt}, dict(todo.work)
        assert len(work) == len(todo.work), "a sequence is named twice"
        assert sum(work.values()) <= limits.token_budget, "over budget"
        assert preempted <= set(running) and set(todo.admit) <= set(queued)
        after = set(running) - preempted | set(todo.admit)
        assert set(work) | set(todo.wait) == after and not set(work) & set(todo.wait)
        assert set(todo.admit) <= set(work)
        assert not todo.admit or len(after) <= max(limits.max_sequences, len(running))
        for ticket, n in work.items():
            item = running.get(ticket) or queued[ticket]
            assert 0 < n <= item.pending + item.drafts
        assert work or preempted or not (running or queued), "nothing happens"
