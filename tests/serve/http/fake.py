"""An engine with the methods that the server uses, without a scheduler: each request runs alone, at a pace that tests choose.

Its tokens are those of the plain `LM.generate`, or of a script. It counts what is alive and what it holds, so that a test sees whether
a request that nobody waits for is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.generate import check_request, primed_detokenizer
from orrery.serve.lm import LM
from orrery.serve.stop import StopStrings


@dataclass
class Update:
    """As the engine's."""

    ticket: int
    choice: int = 0
    text: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[dict[int, float], ...] = ()
    observed: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None
    completion: Completion | None = None
    error: OrreryError | None = None


class FakeEngine:
    """Attributes:
    script: texts that replies say instead of the model's own, one after another, the last one for ever.
    queue_s, prefill_s, token_s: how long a request waits, reads, and takes for a token.
    alive: tickets under way. phase: of each, "queued", "prefill" or "decode". blocks: held by each.
    """

    def __init__(self, lm: LM, *, script: Sequence[str] = ()) -> None:
        self.engine = SimpleNamespace(lm=lm, mode="deterministic", config=SimpleNamespace(speculation=None))
        self.lm, self.script = lm, list(script)
        self.queue_s = self.prefill_s = self.token_s = 0.0
        self.phase: dict[int, str] = {}
        self.blocks: dict[int, int] = {}
        self.requests: list[GenerateRequest] = []
        self.alive = False
        self.cancelled = 0
        self.fault: Exception | None = None
        self.made = 0

    def start(self) -> None:
        self.alive = True

    def stop(self) -> None:
        self.alive = False

    def stats(self) -> Any:
        queued = sum(phase == "queued" for phase in self.phase.values())
        return SimpleNamespace(
            waiting=queued,
            running=len(self.phase) - queued,
            blocks=100,
            blocks_used=sum(self.blocks.values()),
            prefix_hits=0,
            prefix_queries=0,
            preemptions=0,
        )

    async def aside(self, work: Callable[[], Any]) -> Any:
        return work()

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Update]:
        if self.fault is not None:
            raise self.fault
        check_request(self.lm.model, request)
        self.requests.append(request)
        ticket = len(self.requests)
        self.phase[ticket], self.blocks[ticket] = "queued", 1 + len(request.ids) // 16
        finished = False
        try:
            await asyncio.sleep(self.queue_s)
            self.phase[ticket] = "prefill"
            await asyncio.sleep(self.prefill_s)
            self.phase[ticket] = "decode"
            completions = []
            for choice in range(request.n):
                async for update in self._reply(ticket, request, choice):
                    if update.completion is not None:
                        completions.append(update.completion)
                        if choice == request.n - 1:
                            whole = replace(completions[0], others=tuple(completions[1:]))
                            update = replace(update, completion=whole)
                        else:
                            update = replace(update, completion=None)
                    yield update
            finished = True
        finally:
            self.cancelled += not finished
            del self.phase[ticket], self.blocks[ticket]

    async def _reply(self, ticket: int, request: GenerateRequest, choice: int) -> AsyncIterator[Update]:
        ids, logprobs = await asyncio.to_thread(self._ids, request, choice)
        stops = self.lm.stop_ids if request.stop_ids is None else request.stop_ids
        detokenizer, stop = primed_detokenizer(self.lm.tokenizer, request.ids), StopStrings(request.stop)
        said, count, finish = "", 0, None
        while finish is None:
            id = ids[count]
            count += 1
            text = ""
            if id in stops and not request.ignore_eos:
                finish, text = "stop", stop.push(detokenizer.flush()) + stop.flush()
            else:
                text = stop.push(detokenizer.push(id))
                if stop.found:
                    finish = "stop"
                elif count >= min(request.max_tokens, len(ids)):
                    finish, text = "length", text + stop.push(detokenizer.flush()) + stop.flush()
            said += text
            top = () if request.logprobs is None else ({id: logprobs[count - 1], 0: -9.5},)
            completion = None
            if finish is not None:
                completion = Completion(
                    text=said,
                    ids=tuple(ids[:count]),
                    logprobs=tuple(logprobs[:count]),
                    finish_reason=finish,
                    top_logprobs=() if request.logprobs is None else tuple(
                        {i: p, 0: -9.5} for i, p in zip(ids[:count], logprobs[:count], strict=True)
                    ),
                    cached_tokens=3 if len(request.ids) > 16 else 0,
                )  # fmt: skip
            await asyncio.sleep(self.token_s)
            observed = {o.what: [[float(id)]] for o in request.observe}
            yield Update(
                ticket, choice, text, (id,), (logprobs[count - 1],), top, observed, finish, completion
            )

    def _ids(self, request: GenerateRequest, choice: int) -> tuple[list[int], list[float]]:
        """What the reply says; at least `max_tokens` ids or a stop id at its end."""
        if self.script:
            text = self.script[min(self.made, len(self.script) - 1)]
            self.made += 1
            ids = [*self.lm.tokenizer.encode(text, special="allow"), self.lm.stop_ids[0]]
            return ids, [-0.5] * len(ids)
        sampling = replace(request.sampling, seed=request.sampling.seed + choice)
        alone = replace(
            request, sampling=sampling, n=1, best_of=None, stop=(), logprobs=None, prompt_logprobs=None
        )
        completion = self.lm.generate([replace(alone, observe=(), grammar=None)])[0]
        return list(completion.ids), list(completion.logprobs)
