"""Several continuations of one prompt: `n` are given, of `best_of` made.

Each is a request of its own, whose name keys its draws; the first keeps the name, so that it is what n = 1 would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orrery.kit.lm import Completion, GenerateRequest


def choice_request_id(request: GenerateRequest, i: int) -> str:
    """The name under which continuation i is drawn: the request's own for the first, then "name#1", "name#2" ..."""
    return f"{request.request_id}#{i}" if i else request.request_id


def choice_requests(request: GenerateRequest) -> list[GenerateRequest]:
    """One request of one continuation for each that is to be made."""
    return [
        replace(request, request_id=choice_request_id(request, i), n=1, best_of=None)
        for i in range(request.best_of or request.n)
    ]


def given(request: GenerateRequest, made: Sequence[Completion]) -> Completion:
    """The first of the continuations to give, with the others in `others`.

    With best_of these are the n of highest log-probability a token, best first (of equals the earlier); else all, in order.
    """
    if request.best_of is not None:
        made = sorted(made, key=lambda done: -sum(done.logprobs) / len(done.logprobs))
    return replace(made[0], others=tuple(made[1 : request.n]))
