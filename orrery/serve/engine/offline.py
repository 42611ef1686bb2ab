"""Many requests at once, without a server: added as the queue has room, answered in their order."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import TYPE_CHECKING

from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.engine.features import check_request
from orrery.serve.engine.sequence import Update

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Engine


def run_all(engine: Engine, requests: Many[GenerateRequest]) -> list[Completion]:
    """Completions in the order of the requests. Interrupted or not, nothing of them stays in the engine; updates of other requests
    are kept for the next step.

    Raises:
        OrreryError: the first request that is refused, before anything runs; or that failed, when the others have ended.
    """
    for request in requests:
        check_request(engine, request)
    left = list(enumerate(requests))[::-1]
    place: dict[int, int] = {}
    done: dict[int, Completion | Exception] = {}
    others: list[Update] = []
    try:
        while len(done) < len(requests):
            while left and engine.waiting < engine.config.max_queue:
                i, request = left.pop()
                place[engine.add(request)] = i
            for update in engine.step():
                if update.ticket not in place:
                    others.append(update)
                elif (outcome := update.completion or update.error) is not None:
                    done[place[update.ticket]] = outcome
    finally:
        for ticket in place:
            engine.cancel(ticket)
        engine.updates = [*others, *(u for u in engine.updates if u.ticket not in place)]
    completions: list[Completion] = []
    for i in range(len(requests)):
        outcome = done[i]
        if isinstance(outcome, Exception):
            raise outcome
        completions.append(outcome)
    return completions
