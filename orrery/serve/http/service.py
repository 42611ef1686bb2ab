"""What routes ask for: ids of prompts, requests for the engine, its updates (timed, watched, cut off when nobody listens)."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastapi import Request

import orrery
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, EmbedRequest, GenerateRequest, Grammar, Observe, Steering
from orrery.serve.adapters import Adapters
from orrery.serve.http.errors import ApiError
from orrery.serve.http.limits import at_most, refuse
from orrery.serve.http.metrics import Metrics
from orrery.serve.http.schema.common import GenerationFields, OrreryField, SamplingFields, SteeringField
from orrery.serve.http.settings import ServerSettings
from orrery.serve.http.tracing import Traces
from orrery.serve.steer import steering_from_texts

if TYPE_CHECKING:
    from orrery.serve.engine.async_engine import AsyncEngine
    from orrery.serve.engine.engine import Update
    from orrery.serve.http.shadow import Shadow

log = logging.getLogger("orrery.serve")
WAITING = 256
"""Updates kept for a client that reads slowly, before the engine's own are left standing."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, for what: tenant and headers of a request, the model it named and the kind of work."""

    tenant: str
    headers: Mapping[str, str]
    operation: str
    model: str
    adapter: str | None
    steering: tuple[Steering, ...] = ()


class Service:
    """The model behind the routes. `created` says when it was loaded (Unix seconds)."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        settings: ServerSettings,
        name: str,
        metrics: Metrics,
        traces: Traces,
        shadow: Shadow | None = None,
    ) -> None:
        self.engine, self.settings, self.name = engine, settings, name
        self.metrics, self.traces, self.shadow = metrics, traces, shadow
        self.lm = engine.engine.lm
        self.created = int(time.time())

    # --- what is served

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names that `model` may have besides the model's own."""
        return Adapters.of(self.lm.model).names

    @property
    def fingerprint(self) -> str:
        """Version, where it runs, and the mode: "deterministic", or what breaks it."""
        speculation = self.engine.engine.config.speculation
        drawn = speculation is not None and speculation.rule == "rejection"
        mode = self.engine.engine.mode + ("-rejection-sampled" if drawn else "")
        return f"orrery-{orrery.__version__}-{self.lm.model.device.type}-{mode}"

    async def caller(
        self, request: Request, operation: str, model: str | None, extra: OrreryField | None = None
    ) -> Caller:
        """Who asks, and how the model is to be steered (which may take the model itself to find out).

        Raises:
            ApiError: 404, no such model. OrreryError: texts that give no direction.
        """
        if model not in (None, self.name, *self.adapters):
            shown = str(model)[:80]
            raise ApiError(
                404, f"the model '{shown}' is not served here", code="model_not_found", param="model"
            )
        return Caller(
            tenant=request.state.tenant,
            headers=request.headers,
            operation=operation,
            model=model or self.name,
            adapter=model if model in self.adapters else None,
            steering=tuple([await self._steering(field) for field in extra.steering] if extra else ()),
        )

    async def _steering(self, field: SteeringField) -> Steering:
        if field.vector is not None:
            return Steering(layer=field.layer, vector=tuple(field.vector), strength=field.strength)
        toward, away = field.toward or "", field.away or ""
        return await self.engine.aside(
            lambda: steering_from_texts(self.lm, toward, away, layer=field.layer, strength=field.strength)
        )

    async def embed(self, requests: Sequence[EmbedRequest]) -> list[Any]:
        """Vectors, made between two steps of the engine."""
        return await self.engine.aside(lambda: self.lm.embed(requests))

    # --- requests

    def request(
        self,
        body: GenerationFields | SamplingFields,
        ids: Sequence[int],
        *,
        caller: Caller,
        max_tokens: int | None,
        extra: OrreryField | None,
        grammar: Grammar | None = None,
        **settings: Any,
    ) -> GenerateRequest:
        """A body's fields, with what the endpoint made of it, as the engine takes it.

        Raises:
            ApiError: 400, beyond a limit of this server.
        """
        limits, extra = self.settings, extra or OrreryField()
        at_most(max_tokens, limits.max_tokens, "max_tokens")
        room = self.lm.context - len(ids) + 1
        if room < 1:
            raise ApiError(
                400,
                f"the prompt has {len(ids):,} tokens; the model's context is {self.lm.context:,}",
                code="context_length_exceeded",
            )
        if extra.adapter is not None and extra.adapter not in self.adapters:
            raise ApiError(
                404, "no adapter of this name is loaded", code="model_not_found", param="orrery.adapter"
            )
        if isinstance(body, GenerationFields):
            settings |= self._generation(body)
        return GenerateRequest(
            ids=list(ids),
            max_tokens=min(max_tokens or limits.max_tokens, room),
            sampling=self._sampling(body),
            grammar=grammar,
            adapter=extra.adapter or caller.adapter,
            observe=tuple(
                Observe(
                    what=o.what,
                    layers=None if o.layers is None else tuple(o.layers),
                    top=o.top,
                    prompt=o.prompt,
                )
                for o in extra.observe
            ),
            steering=caller.steering,
            priority=extra.priority,
            speculate=extra.speculate,
            cache_prefix=extra.cache_prefix,
            tenant=caller.tenant,
            **settings,
        )

    def _generation(self, body: GenerationFields) -> dict[str, Any]:
        at_most(body.n, self.settings.max_n, "n")
        at_most(len(body.stops), self.settings.max_stop, "stop (strings)")
        return {
            "n": body.n or 1,
            "stop": body.stops,
            "stop_ids": self._stop_ids(body),
            "ignore_eos": body.ignore_eos,
            "num_beams": body.num_beams,
            "length_penalty": body.length_penalty,
        }

    def _sampling(self, body: SamplingFields) -> Any:
        sampling = body.sampling(self.lm.defaults)
        if isinstance(body, GenerationFields):
            if body.num_beams > 1 and body.temperature is None:
                sampling = replace(sampling, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0)
            words = [text for word in body.bad_words or () for text in (word, f" {word}")]
            sampling = replace(sampling, bad_words=tuple(tuple(self.lm.tokenizer.encode(w)) for w in words))
        return sampling

    def _stop_ids(self, body: GenerationFields) -> tuple[int, ...] | None:
        if not body.stop_token_ids:
            return None
        if outside := [i for i in body.stop_token_ids if i >= self.lm.model.cfg.vocab_size]:
            raise refuse(f"stop_token_ids holds {outside[0]}, which is no id of this model", "stop_token_ids")
        return (*self.lm.stop_ids, *body.stop_token_ids)

    # --- the engine

    async def updates(
        self, requests: Sequence[GenerateRequest], caller: Caller
    ) -> AsyncGenerator[tuple[int, Update], None]:
        """(index of the request, update) as they come; closing it cancels them all.

        Raises:
            OrreryError: the engine refuses one. TimeoutError: one took too long.
        """
        queue: asyncio.Queue[Any] = asyncio.Queue(WAITING)
        tasks = [
            asyncio.create_task(self._pump(index, request, caller, queue))
            for index, request in enumerate(requests)
        ]
        try:
            left = len(tasks)
            while left:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    left -= 1
                else:
                    yield item
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, index: int, request: GenerateRequest, caller: Caller, queue: asyncio.Queue[Any]
    ) -> None:
        """One request in a task of its own, so that its time-out and its span begin and end in one place."""
        watch = self.metrics.watch()
        span = self.traces.span(caller.operation, caller.model, request, caller.headers)
        reason, completion, ended = "cancelled", None, set[int]()
        try:
            async with (
                asyncio.timeout(self.settings.request_timeout_s),
                aclosing(self.engine.stream(request)) as updates,  # type: ignore[bad-specialization]
            ):
                async for update in updates:
                    if update.error is not None:
                        raise update.error
                    first = watch.first_s is None
                    watch.tokens(update.choice, len(update.ids))
                    if first and watch.first_s is not None:
                        span.first_token(watch.first_s)
                    completion = update.completion or completion
                    if update.finish_reason is not None and update.choice in ended:
                        update = replace(update, finish_reason=None)  # of the whole: its choice has ended
                    elif update.finish_reason is not None:
                        ended.add(update.choice)
                    await queue.put((index, update))
            reason = "cancelled" if completion is None else completion.finish_reason
            await queue.put(None)
            if self.shadow is not None and completion is not None:
                self.shadow.offer(request, completion)
        except Exception as error:
            reason = "refused" if isinstance(error, OrreryError) else "fault"
            if isinstance(error, TimeoutError):
                reason = "timeout"
            await queue.put(error)
        finally:
            if self.settings.log_prompts:
                self._log(request, completion)
            watch.end(reason, len(request.ids), completion)
            span.end(reason, completion)

    def _log(self, request: GenerateRequest, completion: Completion | None) -> None:
        """Only where `log_prompts` says so."""
        texts = [] if completion is None else [choice.text for choice in choices_of(completion)]
        log.info("prompt %a answers %a", self.lm.tokenizer.decode(request.ids), texts)

    async def complete(self, requests: Sequence[GenerateRequest], caller: Caller) -> list[Completion]:
        """The completions of all requests, in their order.

        Raises:
            OrreryError, TimeoutError: as `updates`.
        """
        made: dict[int, Completion] = {}
        async with aclosing(self.updates(requests, caller)) as updates:
            async for index, update in updates:
                if update.completion is not None:
                    made[index] = update.completion
        return [made[index] for index in range(len(requests))]


def choices_of(completion: Completion) -> tuple[Completion, ...]:
    """All continuations of a request."""
    return (completion, *completion.others)


def usage_of(requests: Sequence[GenerateRequest], completions: Sequence[Completion]) -> dict[str, Any]:
    """Tokens read and made, and of those read, how many the cache had."""
    read = sum(len(request.ids) for request in requests)
    made = sum(len(choice.ids) for completion in completions for choice in choices_of(completion))
    cached = sum(completion.cached_tokens for completion in completions)
    accepted = sum(choice.accepted for completion in completions for choice in choices_of(completion))
    drafted = sum(choice.drafted for completion in completions for choice in choices_of(completion))
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {
            "accepted_prediction_tokens": accepted,
            "rejected_prediction_tokens": drafted - accepted,
        },
    }


def new_id(kind: str) -> str:
    """A name for an answer, a call or an item."""
    return f"{kind}{secrets.token_hex(12)}"
