"""One engine over a model that is divided among ranks (`model.tensor_parallel`): rank 0 decides, all ranks do the same.

Every rank has an engine of its own over its slices. An engine's next step follows from the requests it was given and from their
order alone, and logits are the same bits on every rank. So it is enough that rank 0 tells what it is about to do (a request, a
cancellation, a step) before it does it; no table and no token crosses ranks, only what the layers sum.

    ranks = Ranks.join(); parallelise(lm.model, ranks)
    engine = Engine(lm, config)
    if ranks.rank: follow(engine)                        # returns when rank 0 ends
    else: AsyncEngine(Leader(engine, ranks)) ...         # and Leader.end() at the end
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch.distributed as dist

from orrery.kit.lm import GenerateRequest
from orrery.model.tensor_parallel import Ranks
from orrery.serve.engine.engine import Engine
from orrery.serve.engine.sequence import Job, Update

OWN_TICKETS = 1 << 40
"""Tickets that a follower's engine makes by itself are later than any that it is told, as they are on rank 0."""


@dataclass(frozen=True)
class Command:
    """What all ranks do next; tickets are those of the request's sequences, or of the request that is cancelled."""

    do: Literal["enqueue", "cancel", "step", "end"]
    tickets: tuple[int, ...] = ()
    request: GenerateRequest | None = None


def tell(command: Command) -> None:
    """Rank 0 to all."""
    dist.broadcast_object_list([command], src=0)


def hear() -> Command:
    """What rank 0 tells; waits for it."""
    heard: list[Any] = [None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]


class Leader:
    """Rank 0's engine, as `AsyncEngine` uses one: every call that changes it is told to the other ranks first."""

    def __init__(self, engine: Engine, ranks: Ranks) -> None:
        self.engine, self.ranks = engine, ranks
        self._ended = False
        ranks.together = False  # but for steps: what else computes would wait for the other ranks for ever

    def enqueue(self, job: Job) -> None:
        """Queue it on every rank."""
        self.engine.enqueue(job)  # first here, where the queue may be full
        tell(Command("enqueue", tuple(s.ticket for s in job.sequences) or (job.ticket,), job.request))

    def cancel(self, ticket: int) -> None:
        """Cancel it on every rank, if it is unfinished."""
        if ticket in self.engine.jobs and not self._ended:
            tell(Command("cancel", (ticket,)))
        self.engine.cancel(ticket)

    def step(self) -> list[Update]:
        """A step of every rank."""
        tell(Command("step"))
        self.ranks.together = True
        try:
            return self.engine.step()
        finally:
            self.ranks.together = False

    def end(self) -> None:
        """Let the other ranks go; nothing runs afterwards."""
        self._ended = True
        tell(Command("end"))

    def __getattr__(self, name: str) -> Any:
        """Whatever else is read of an engine: rank 0's."""
        return getattr(self.engine, name)


def follow(engine: Engine) -> None:
    """What the other ranks do: as they are told, until rank 0 ends."""
    engine._tickets = itertools.count(OWN_TICKETS)
    while (command := hear()).do != "end":
        match command.do:
            case "enqueue":
                assert command.request is not None
                job = engine.prepare(command.request)
                job.ticket = command.tickets[0]
                for sequence, ticket in zip(job.sequences, command.tickets, strict=False):
                    sequence.ticket = ticket
                engine.enqueue(job)
            case "cancel":
                engine.cancel(command.tickets[0])
            case "step":
                engine.step()
