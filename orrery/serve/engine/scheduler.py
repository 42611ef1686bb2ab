"""What the next step computes: one pure function from plain numbers to a plan, so that policy is tested without a model.

Continuous batching (Yu et al. 2022, Orca) with chunked prefill (Agrawal et al. 2024, Sarathi-Serve, arXiv:2403.02310): a step is at
most `token_budget` tokens. First come sequences that decode, or lack no more than a block of tokens; then as much of the prompts
as fits, so that a long prompt delays nobody by more than a step of bounded length. Draft tokens have what is left, and at least
half of what decodes leave where prompts wait.

Who comes first, in this order:
    1. the elder: the oldest unfinished request, once it is `patience` steps old. There is one at a time and nothing
       displaces it, so every request becomes the elder or ends before: none starves, whatever else arrives
    2. smaller priority
    3. the tenant that was served fewer tokens (Sheng et al. 2024, virtual token counter, arXiv:2401.00588)
    4. earlier arrival

When blocks run out, the running sequence that is last by (elder, priority, its tenant's number of running sequences, arrival)
makes room, if it is behind the one that needs it; otherwise that one pauses. A queued request displaces a running one only
for a reason above arrival: it is the elder, of smaller priority, or of a tenant with two running sequences fewer. Both orders are total,
and the first in them is never displaced: something always goes on.

A queued request is let in when its whole prompt fits, and one block more for each that runs, so that prompts do not displace each
other half-way: while one is being read it takes what the step has left, and no other is let in. The first in the queue that does
not fit holds back those behind it, or a large request would never find room.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

Preemption = Literal["recompute", "swap"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """What the scheduler knows of a sequence.

    Attributes:
        ticket: names it; among equal arrivals the smaller is earlier.
        arrival: the step at which its request came. It keeps it when it is preempted; forks have their request's.
        priority: smaller is earlier.
        length: tokens whose keys are in the cache; of a queued one, those that a cached or swapped prefix will give it.
        pending: tokens known but not computed, at least 1: the rest of the prompt, or the token sampled last.
        drafts: tokens it would like to have verified beyond these.
        fixed: by group of layers, blocks it takes however few tokens it gets: copies on write (`BlockTables.copies`), of a
            queued one idle blocks of its prefix (`Prefix.idle`) or those to swap in (`BlockTables.parked`).
        held: by group, blocks that come free if it is preempted (`BlockTables.held`).
        slots: sequences it will become (n of its request), counted against `max_sequences`.
    """

    ticket: int
    arrival: int
    priority: int = 0
    tenant: str = ""
    length: int = 0
    pending: int = 1
    drafts: int = 0
    fixed: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    slots: int = 1


@dataclass(frozen=True, kw_only=True)
class SchedulerState:
    """All that a plan depends on.

    Attributes:
        step: the number of plans so far.
        running, queued: sequences that hold blocks, and those that wait, swapped out ones among them. In any order.
        free: by group of layers, blocks that can be allocated.
        served: by tenant, the tokens computed for it: what the last plan returned.
    """

    step: int
    running: tuple[Item, ...] = ()
    queued: tuple[Item, ...] = ()
    free: tuple[int, ...] = ()
    served: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a step may cost.

    Attributes:
        token_budget: tokens a step.
        max_sequences: sequences that run at a time.
        block_size: tokens a block.
        windows: by group of layers, how many tokens they see; None means all.
        patience: steps after which the oldest request goes before all others.
        preemption: what becomes of the cache of a sequence that makes room: dropped, or moved to ordinary memory.
    """

    token_budget: int = 512
    max_sequences: int = 64
    block_size: int = 16
    windows: tuple[int | None, ...] = (None,)
    patience: int = 1000
    preemption: Preemption = "recompute"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do in this step, in this order: preempt, admit, compute.

    Attributes:
        preempt: (ticket, how) of running sequences that give their blocks back and queue again.
        admit: tickets of queued sequences that run from now on. All of them have work.
        work: (ticket, tokens) to compute: pending tokens first, then drafts. Never more than the token budget together.
        wait: tickets of running sequences that pause because tokens or blocks ran short.
        served: tokens by tenant after this plan, for the next state; tenants without a sequence are dropped.

    Do the work in its order, and take a prefix up when its turn comes. If blocks of that prefix went with a sequence that was
    preempted by this plan, `grow` may find too few: leave it in the queue then. Whatever ran before gets what was planned.

    A plan without work, while something runs or is queued, preempts something; if it does not, the pool cannot hold even one
    of the sequences alone.
    """

    preempt: tuple[tuple[int, Preemption], ...]
    admit: tuple[int, ...]
    work: tuple[tuple[int, int], ...]
    wait: tuple[int, ...]
    served: Mapping[str, int]


def plan(state: SchedulerState, limits: Limits) -> Plan:
    """The work of the next step. Pure: equal arguments give an equal plan."""
    step = _Step(state, limits)
    short = sorted((i for i in state.running if i.pending <= limits.block_size), key=step.rank)
    long = [item for item in state.running if item.pending > limits.block_size]
    for item in short:
        step.run(item)
    kept_back = step.keep_for_drafts(short, share=2 if long or state.queued else 1)
    for item in sorted(long, key=step.turn):
        step.run(item)
    if not step.preempted:
        step.admit_queued()
    step.budget += kept_back
    step.draft(short)
    if not step.work and not step.preempted and len(step.running) > 1:
        # Forks that share blocks each hold few alone, so no victim seemed to help; one by one they do.
        step.preempt(max(step.running.values(), key=step.rank))
    return Plan(
        preempt=tuple((ticket, limits.preemption) for ticket in step.preempted),
        admit=tuple(step.admitted),
        work=tuple(step.work.items()),
        wait=tuple(sorted(ticket for ticket in step.running if ticket not in step.work)),
        served=step.served,
    )


class _Step:
    """A plan in the making: what is left of blocks, tokens and slots, and who runs."""

    def __init__(self, state: SchedulerState, limits: Limits) -> None:
        self.queued, self.limits = state.queued, limits
        self.running = {item.ticket: item for item in state.running}
        self.free, self.budget = list(state.free), limits.token_budget
        self.slots = limits.max_sequences - sum(item.slots for item in state.running)
        self.share = Counter(item.tenant for item in state.running)  # running sequences by tenant
        self.work: dict[int, int] = {}
        self.admitted: list[int] = []
        self.preempted: list[int] = []
        everyone = (*state.running, *state.queued)
        tenants = {item.tenant for item in everyone}
        least = min((state.served[t] for t in tenants if t in state.served), default=0)
        # A tenant that was away comes back level with the least served: absence earns no credit.
        self.served = {t: state.served.get(t, least) for t in sorted(tenants)}
        arrival, ticket = min(((i.arrival, i.ticket) for i in everyone), default=(state.step, -1))
        self.elder = ticket if state.step - arrival >= limits.patience else -1

    def turn(self, item: Item) -> tuple[bool, int, int, int, int]:
        """The order in which the budget is given out and the queue is let in."""
        return item.ticket != self.elder, item.priority, self.served[item.tenant], item.arrival, item.ticket

    def rank(self, item: Item) -> tuple[bool, int, int, int, int]:
        """The order in which sequences keep their blocks; the last makes room first."""
        return item.ticket != self.elder, item.priority, self.share[item.tenant], item.arrival, item.ticket

    def claim(self, item: Item) -> tuple[bool, int, int]:
        """A queued sequence displaces running ones whose rank begins with more than this."""
        return item.ticket != self.elder, item.priority, self.share[item.tenant] + 1

    def yields(self, item: Item, claim: tuple[bool, int, int]) -> bool:
        """Whether a running sequence makes room for a claim; not if it was let in by this very plan."""
        return self.rank(item)[:3] > claim and item.ticket not in self.admitted

    def blocks(self, item: Item, n: int) -> list[int]:
        """By group, the blocks for n more tokens."""
        size = self.limits.block_size
        new = -(-(item.length + n) // size) - -(-item.length // size)
        return [new + fixed for fixed in item.fixed]

    def whole(self, item: Item) -> list[int]:
        """By group, the blocks for all that is pending; layers with a window never hold more than it and one step."""
        size, budget = self.limits.block_size, self.limits.token_budget
        need, least = self.blocks(item, item.pending), self.blocks(item, 1)
        for group, window in enumerate(self.limits.windows):
            if window is not None:
                need[group] = min(need[group], max(-(-(window + budget) // size) + 1, least[group]))
        return need

    def fit(self, item: Item) -> int:
        """How many more tokens of it fit into the free blocks and the budget."""
        size, n = self.limits.block_size, self.budget
        for free, fixed in zip(self.free, item.fixed, strict=True):
            n = min(n, (free - fixed) * size + -item.length % size if free >= fixed else 0)
        return n

    def has_room(self, item: Item) -> bool:
        """Whether a queued sequence may come in: its whole prompt fits, and one block more for each that runs."""
        if item.slots > self.slots:
            return False
        if not self.running:
            return self.fit(item) > 0
        return all(n + len(self.running) <= free for n, free in zip(self.whole(item), self.free, strict=True))

    def give(self, item: Item, n: int, sign: int = 1) -> None:
        """Book n tokens of work; sign -1 takes them back."""
        self.budget -= sign * n
        self.served[item.tenant] += sign * n
        for group, blocks in enumerate(self.blocks(item, n)):
            self.free[group] -= sign * blocks

    def run(self, item: Item) -> None:
        """Work for a running sequence: as much of what is pending as fits; if nothing does, others make room."""
        if item.ticket not in self.running or not self.budget:
            return
        self.make_room(lambda: self.fit(item) > 0, lambda other: self.rank(other) > self.rank(item))
        n = min(item.pending, self.fit(item))
        if n:
            self.work[item.ticket] = n
            self.give(item, n)

    def admit_queued(self) -> None:
        """Let queued sequences in, in their turn, until one does not fit."""
        queues: dict[str, list[tuple[tuple[bool, int, int, int], Item]]] = {}
        for item in self.queued:
            key = (item.ticket != self.elder, item.priority, item.arrival, item.ticket)
            queues.setdefault(item.tenant, []).append((key, item))
        for queue in queues.values():
            heapq.heapify(queue)
        while queues and self.budget:
            item = min((queue[0][1] for queue in queues.values()), key=self.turn)
            if not self.make_room(partial(self.has_room, item), partial(self.yields, claim=self.claim(item))):
                return
            self.running[item.ticket] = item
            self.share[item.tenant] += 1
            self.slots -= item.slots
            self.admitted.append(item.ticket)
            self.run(item)
            heapq.heappop(queues[item.tenant])
            if not queues[item.tenant]:
                del queues[item.tenant]

    def keep_for_drafts(self, items: Sequence[Item], *, share: int) -> int:
        """Put aside 1 / share of the budget that is left, or less if that is enough for the drafts of those that run."""
        wanted = sum(item.drafts for item in items if item.ticket in self.work)
        kept = min(wanted, self.budget // share)
        self.budget -= kept
        return kept

    def draft(self, items: Iterable[Item]) -> None:
        """Draft tokens for those that got all that was pending, from the blocks that nobody else needed."""
        for item in items:
            n = self.work.get(item.ticket, 0)
            if item.drafts and n == item.pending:
                self.give(item, n, -1)
                self.work[item.ticket] = min(n + item.drafts, self.fit(item))
                self.give(item, self.work[item.ticket])

    def make_room(self, enough: Callable[[], bool], behind: Callable[[Item], bool]) -> bool:
        """Preempt those behind, the last first, until there is enough; nobody if that would not help."""
        if enough():
            return True
        before = {name: copy(value) for name, value in vars(self).items()}
        while not enough():
            victims = [item for item in self.running.values() if behind(item)]
            if not victims:
                vars(self).update(before)
                return False
            self.preempt(max(victims, key=self.rank))
        return True

    def preempt(self, item: Item) -> None:
        """Take a running sequence off, with the work it may have got in this plan."""
        del self.running[item.ticket]
        self.share[item.tenant] -= 1
        self.slots += item.slots
        self.preempted.append(item.ticket)
        if item.ticket in self.work:
            self.give(item, self.work.pop(item.ticket), -1)
        for group, blocks in enumerate(item.held):
            self.free[group] += blocks
