"""/v1/completions: go on from texts or ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.http.formats import grammar_of
from orrery.serve.http.limits import at_most, refuse
from orrery.serve.http.routes import answered, service_of, streamed
from orrery.serve.http.schema.completions import CompletionRequest, TextCompletion
from orrery.serve.http.service import Caller, Service, choices_of, new_id, usage_of
from orrery.serve.http.views import answer_extra, choice_extra, legacy_logprobs, spoken

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Update

router = APIRouter()
USUAL_TOKENS = 16


@router.post("/v1/completions", responses=streamed(TextCompletion))
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Continue each prompt, n times each."""
    service = service_of(request)
    caller = await service.caller(request, "text_completion", body.model, body.orrery)
    requests = await asyncio.to_thread(_requests, service, body, caller)
    maker = _Maker(service, body, caller, requests)
    return await answered(
        request, requests, caller, events=maker.events, whole=maker.whole, stream=bool(body.stream)
    )


def _requests(service: Service, body: CompletionRequest, caller: Caller) -> list[GenerateRequest]:
    """Tokenizes, so it runs beside the event loop."""
    settings = service.settings
    prompts = prompts_of(body.prompt)
    at_most(len(prompts), settings.max_batch, "prompt (how many)")
    at_most(body.logprobs, settings.max_logprobs, "logprobs")
    at_most(body.best_of, settings.max_n, "best_of")
    if body.best_of is not None and body.best_of < (body.n or 1):
        raise refuse("best_of must be n or more", "best_of")
    if body.stream and (body.best_of or 1) > (body.n or 1):
        raise refuse("best_of cannot be streamed: which is best is known at the end", "best_of")
    if body.stream and (body.echo or body.num_beams > 1):
        raise refuse("echo and beam search cannot be streamed", "stream")
    if body.max_tokens == 0 and not body.echo:
        raise refuse("max_tokens must be 1 or more, or 0 with echo", "max_tokens")
    if body.suffix is not None and not all(isinstance(prompt, str) for prompt in prompts):
        raise refuse("suffix needs a prompt of text", "suffix")
    grammar = grammar_of(body.response_format, settings)
    return [
        service.request(
            body,
            service.lm.tokenizer.encode_fim(prompt, body.suffix)
            if body.suffix is not None and isinstance(prompt, str)
            else service.lm.prompt_ids(prompt),
            caller=caller,
            max_tokens=min(USUAL_TOKENS, settings.max_tokens)
            if body.max_tokens is None
            else max(body.max_tokens, 1),
            extra=body.orrery,
            grammar=grammar,
            best_of=body.best_of,
            logprobs=body.logprobs,
            prompt_logprobs=body.logprobs if body.echo else None,
        )
        for prompt in prompts
    ]


def prompts_of(given: Any) -> list[str | list[int]]:
    """One text or one list of ids is a batch of one."""
    return [given] if isinstance(given, str) or isinstance(given[0], int) else given


class _Maker:
    """Answers of one request, whole or in pieces. Choice `i` of prompt `p` has the index p * n + i."""

    def __init__(
        self, service: Service, body: CompletionRequest, caller: Caller, requests: Sequence[GenerateRequest]
    ) -> None:
        self.service, self.body, self.caller, self.requests = service, body, caller, requests
        self.tokenizer, self.n = service.lm.tokenizer, body.n or 1
        self.frame = {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": caller.model,
            "system_fingerprint": service.fingerprint,
        }

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer at once."""
        choices = [
            self._choice(prompt * self.n + at, request, completion, choice)
            for prompt, (request, completion) in enumerate(zip(self.requests, completions, strict=True))
            for at, choice in enumerate(choices_of(completion))
        ]
        answer = {**self.frame, "choices": choices, "usage": usage_of(self.requests, completions)}
        if self.body.orrery is not None:
            answer["orrery"] = answer_extra(self.requests[0], completions[0])
        return answer

    def _choice(
        self, index: int, request: GenerateRequest, whole: Completion, made: Completion
    ) -> dict[str, Any]:
        count = self.body.logprobs
        kept = spoken(made.ids, made.finish_reason, request, self.service.lm.stop_ids)
        ids, values, top = made.ids[:kept], list(made.logprobs[:kept]), list(made.top_logprobs[:kept])
        text, logprobs = made.text, None
        if self.body.max_tokens == 0:
            ids, values, top, text = (), [], [], ""
        if self.body.echo:
            text = self.tokenizer.decode(request.ids, special=False) + text
        if count is not None and self.body.echo:
            rows = whole.prompt_logprobs
            read = [row[id] for row, id in zip(rows, request.ids[1:], strict=True)]
            logprobs = legacy_logprobs(
                self.tokenizer, [*request.ids, *ids], [None, *read, *values], [None, *rows, *top], count, 0
            )
        elif count is not None:
            logprobs = legacy_logprobs(self.tokenizer, ids, values, top, count, 0)
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": made.finish_reason}
        if self.body.orrery is not None:
            choice["orrery"] = choice_extra(ids, made.observed)
        return choice

    async def events(self) -> AsyncGenerator[tuple[None, dict[str, Any]], None]:
        """The answer in chunks."""
        written: dict[int, int] = {}
        completions: list[Completion] = []
        wants_usage = bool(self.body.stream_options and self.body.stream_options.include_usage)
        first = True
        async with aclosing(self.service.updates(self.requests, self.caller)) as updates:
            async for prompt, update in updates:
                if update.completion is not None:
                    completions.append(update.completion)
                if not (update.text or update.ids or update.finish_reason):
                    continue
                chunk = self._chunk(prompt, update, written)
                if self.body.orrery is not None and first:
                    chunk["orrery"] = answer_extra(self.requests[0], None)
                if wants_usage:
                    chunk["usage"] = None
                first = False
                yield None, chunk
        if wants_usage:
            yield None, {**self.frame, "choices": [], "usage": usage_of(self.requests, completions)}

    def _chunk(self, prompt: int, update: Update, written: dict[int, int]) -> dict[str, Any]:
        index, request = prompt * self.n + update.choice, self.requests[prompt]
        kept = spoken(update.ids, update.finish_reason, request, self.service.lm.stop_ids)
        ids = update.ids[:kept]
        choice: dict[str, Any] = {
            "index": index,
            "text": update.text,
            "logprobs": None,
            "finish_reason": update.finish_reason,
        }
        if self.body.logprobs is not None:
            offset = written.get(index, 0)
            choice["logprobs"] = legacy_logprobs(
                self.tokenizer,
                ids,
                update.logprobs[:kept],
                update.top_logprobs[:kept],
                self.body.logprobs,
                offset,
            )
            written[index] = offset + sum(len(token) for token in choice["logprobs"]["tokens"])
        if self.body.orrery is not None:
            choice["orrery"] = choice_extra(ids, update.observed)
        return {**self.frame, "choices": [choice]}
