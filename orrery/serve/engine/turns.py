"""Whose turn it is: what the scheduler is told, and what it decides carried out, up to the work of the next pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from heapq import nsmallest

from orrery.serve.engine.blocks import OutOfBlocks
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.drafting import Drafts
from orrery.serve.engine.memory import Memory
from orrery.serve.engine.runner import Work
from orrery.serve.engine.scheduler import Item, Limits, Plan, Preemption, SchedulerState, plan
from orrery.serve.engine.sequence import Job, Sequence
from orrery.serve.engine.statistics import Counts
from orrery.serve.speculate.drafter import NOTHING, Draft

NEXT = 4
"""Of the sequences that wait so many are looked for among the cached prefixes at every step: those that may come in next."""


class Turns:
    """Attributes:
    running, waiting: sequences by their tickets; those that run hold a row of the block tables.
    hopeless: what the last step found not to fit the cache even alone.
    """

    def __init__(
        self, config: EngineConfig, memory: Memory, drafts: Drafts, counts: Counts, *, recompute: bool
    ) -> None:
        self.memory, self.drafts, self.counts = memory, drafts, counts
        self.limits = Limits(
            token_budget=config.token_budget,
            max_sequences=config.max_sequences,
            block_size=config.block_size,
            windows=memory.windows,
            preemption="recompute" if recompute else "swap",
        )
        self.running: dict[int, Sequence] = {}
        self.waiting: dict[int, Sequence] = {}
        self.hopeless: list[Sequence] = []
        self._queued: dict[int, Item] = {}  # what the scheduler is told of those that wait, made once
        self._steps = 0
        self._served: Mapping[str, int] = {}

    def queue(self, job: Job) -> None:
        """The first sequence of a request waits from now on; the others begin when it has read the prompt."""
        for sequence in job.sequences:
            sequence.arrival = self._steps
        self._wait(job.sequences[0])

    def _wait(self, sequence: Sequence) -> None:
        self.waiting[sequence.ticket] = sequence
        self._queued[sequence.ticket] = self.memory.queued(sequence, look=False, slots=sequence.slots)

    def leave(self, sequence: Sequence) -> None:
        """It is over."""
        self.running.pop(sequence.ticket, None)
        self.waiting.pop(sequence.ticket, None)
        self._queued.pop(sequence.ticket, None)
        self.memory.drop(sequence)
        self.drafts.forget(sequence)

    def next(self, drafts: dict[int, Draft]) -> list[Work]:
        """Who makes room, who comes in, and what is read, with slots for all of it."""
        # A beam that waits for the others holds a row and has nothing to read.
        resting = sum(sequence.remaining == 0 for sequence in self.running.values())
        limits = (
            replace(self.limits, max_sequences=self.limits.max_sequences - resting)
            if resting
            else self.limits
        )
        planned = plan(self._state(drafts), limits)
        self._steps, self._served = self._steps + 1, planned.served
        self._make_room(planned)
        work: list[Work] = []
        first = 0
        for ticket, n in planned.work:
            sequence = self.running.get(ticket)
            if sequence is None:
                continue
            known = min(n, sequence.remaining)
            draft = drafts.get(ticket, NOTHING).first(n - known)
            try:
                self.memory.grow(sequence, known + len(draft))
            except OutOfBlocks:  # a prefix that was counted on was gone by now; the next plan knows
                continue
            work.append(Work(sequence, sequence.computed, known, draft, first))
            first += work[-1].total
        self.hopeless = []
        if not work and not planned.preempt and not planned.admit:
            self._unstick()
        return work

    def preempt(self, sequence: Sequence, how: Preemption) -> None:
        """Take a running sequence off; it waits, and goes on later from what is swapped out, or is computed again."""
        del self.running[sequence.ticket]
        if how == "swap":
            self.memory.swap_out(sequence)
        else:
            self.memory.drop(sequence)
            self.drafts.forget(sequence)
        if sequence.job.beams is not None:
            sequence.job.beams.rows.pop(sequence.ticket, None)
        sequence.preempted += 1
        self.counts.preemptions += 1
        self._wait(sequence)

    def _state(self, drafts: dict[int, Draft]) -> SchedulerState:
        queued = self._queued
        if self.waiting and len(self.running) < self.limits.max_sequences:
            near = nsmallest(NEXT, self.waiting.values(), key=_order)
            queued = queued | {s.ticket: self.memory.queued(s, look=True, slots=s.slots) for s in near}
        return SchedulerState(
            step=self._steps,
            running=tuple(
                self.memory.item(s, drafts=len(drafts.get(t, NOTHING)), slots=s.slots)
                for t, s in self.running.items()
                if s.remaining
            ),
            queued=tuple(queued.values()),
            free=self.memory.free,
            served=self._served,
        )

    def _make_room(self, planned: Plan) -> None:
        for ticket, how in planned.preempt:
            self.preempt(self.running[ticket], how)
        for ticket in planned.admit:
            sequence = self.waiting[ticket]
            anew = sequence.swapped is None
            try:
                self.memory.enter(sequence)
            except OutOfBlocks:
                continue
            self.running[ticket] = self.waiting.pop(ticket)
            del self._queued[ticket]
            if anew:
                self.drafts.begin(sequence)

    def _unstick(self) -> None:
        """Nothing fits: the last to come makes room, and what does not fit alone never will."""
        if len(self.running) > 1:
            last = max(self.running.values(), key=_order)
            self.preempt(last, self.limits.preemption)
        else:
            self.hopeless = [*self.running.values(), *self.waiting.values()][:1]


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.request.priority, sequence.arrival, sequence.ticket
