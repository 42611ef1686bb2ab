"""/v1/chat/completions: go on with a conversation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orrery.kit.lm import Completion
from orrery.serve.http.answer import Asked, Reader, prepare
from orrery.serve.http.formats import grammar_of
from orrery.serve.http.limits import at_most, refuse
from orrery.serve.http.routes import answered, service_of, streamed
from orrery.serve.http.schema.chat import ChatCompletion, ChatRequest
from orrery.serve.http.schema.common import NamedTool
from orrery.serve.http.service import Caller, Service, choices_of, new_id, usage_of
from orrery.serve.http.views import answer_extra, chat_logprobs, choice_extra, spoken

if TYPE_CHECKING:
    from orrery.serve.engine.engine import Update

router = APIRouter()


@router.post("/v1/chat/completions", responses=streamed(ChatCompletion))
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, n times."""
    service = service_of(request)
    caller = await service.caller(request, "chat", body.model, body.orrery)
    asked = await asyncio.to_thread(_asked, service, body, caller)
    maker = _Maker(service, body, caller, asked)
    return await answered(
        request, [asked.request], caller,
        events=maker.events, whole=lambda done: maker.whole(done[0]), stream=bool(body.stream),
    )  # fmt: skip


def _asked(service: Service, body: ChatRequest, caller: Caller) -> Asked:
    """Renders, tokenizes and reads schemas, so it runs beside the event loop."""
    settings = service.settings
    at_most(body.top_logprobs, settings.max_logprobs, "top_logprobs")
    if body.top_logprobs and not body.logprobs:
        raise refuse("top_logprobs needs logprobs", "top_logprobs")
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise refuse("max_tokens and max_completion_tokens differ; give one", "max_tokens")
    if body.stream and body.num_beams > 1:
        raise refuse("beam search cannot be streamed", "stream")
    choice = body.tool_choice
    return prepare(
        service,
        body,
        caller,
        messages=body.messages,
        tools=body.tools,
        tool_choice=choice.function.name if isinstance(choice, NamedTool) else choice,
        named=isinstance(choice, NamedTool),
        parallel=body.parallel_tool_calls,
        variables=body.chat_template_kwargs,
        grammar=grammar_of(body.response_format, settings),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


class _Maker:
    """The answer, whole or in pieces."""

    def __init__(self, service: Service, body: ChatRequest, caller: Caller, asked: Asked) -> None:
        self.service, self.body, self.caller, self.asked = service, body, caller, asked
        self.frame = {
            "id": new_id("chatcmpl-"),
            "created": int(time.time()),
            "model": caller.model,
            "system_fingerprint": service.fingerprint,
        }

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer at once."""
        answer = {
            **self.frame,
            "object": "chat.completion",
            "choices": [self._choice(index, made) for index, made in enumerate(choices_of(completion))],
            "usage": usage_of([self.asked.request], [completion]),
        }
        if self.body.orrery is not None:
            answer["orrery"] = answer_extra(self.asked.request, completion)
        return answer

    def _choice(self, index: int, made: Completion) -> dict[str, Any]:
        said = self.asked.reader().all(made.text)
        message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        if said.calls:
            message["content"] = said.content or None
            message["tool_calls"] = [call.view() for call in said.calls]
        kept = spoken(made.ids, made.finish_reason, self.asked.request, self.service.lm.stop_ids)
        choice: dict[str, Any] = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(made, kept),
            "finish_reason": _finish(made.finish_reason, bool(said.calls)),
        }
        if self.body.orrery is not None:
            choice["orrery"] = choice_extra(made.ids[:kept], made.observed)
        return choice

    def _logprobs(self, made: Completion | Update, kept: int) -> dict[str, Any] | None:
        if not self.body.logprobs:
            return None
        return chat_logprobs(
            self.service.lm.tokenizer,
            made.ids[:kept],
            made.logprobs[:kept],
            made.top_logprobs[:kept],
            self.body.top_logprobs or 0,
        )

    async def events(self) -> AsyncGenerator[tuple[None, dict[str, Any]], None]:
        """The answer in chunks: a role, pieces, how it ended; for each choice."""
        readers: dict[int, Reader] = {}
        usage: dict[str, Any] | None = None
        wants_usage = bool(self.body.stream_options and self.body.stream_options.include_usage)
        async with aclosing(self.service.updates([self.asked.request], self.caller)) as updates:
            async for _, update in updates:
                if update.choice not in readers:
                    readers[update.choice] = self.asked.reader()
                    chunk = self._chunk(update.choice, {"role": "assistant", "content": "", "refusal": None})
                    if self.body.orrery is not None and len(readers) == 1:
                        chunk["orrery"] = answer_extra(self.asked.request, None)
                    yield None, chunk
                for chunk in self._chunks(update, readers[update.choice]):
                    yield None, chunk
                if update.completion is not None:
                    usage = usage_of([self.asked.request], [update.completion])
        if wants_usage:
            yield None, {**self.frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _chunks(self, update: Update, reader: Reader) -> list[dict[str, Any]]:
        """At most one chunk with what is new, and one that says how the choice ended."""
        chunks = []
        delta = reader.push(update.text)
        if update.finish_reason is not None:
            delta += reader.end()
        kept = spoken(update.ids, update.finish_reason, self.asked.request, self.service.lm.stop_ids)
        logprobs = self._logprobs(update, kept)
        if delta or (kept and (logprobs is not None or self.body.orrery is not None)):
            chunk = self._chunk(update.choice, delta.view())
            chunk["choices"][0]["logprobs"] = logprobs
            if self.body.orrery is not None:
                chunk["choices"][0]["orrery"] = choice_extra(update.ids[:kept], update.observed)
            chunks.append(chunk)
        if update.finish_reason is not None:
            chunks.append(self._chunk(update.choice, {}, _finish(update.finish_reason, reader.called)))
        return chunks

    def _chunk(self, index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk: dict[str, Any] = {**self.frame, "object": "chat.completion.chunk", "choices": [choice]}
        if self.body.stream_options and self.body.stream_options.include_usage:
            chunk["usage"] = None
        return chunk


def _finish(reason: str, called: bool) -> str:
    return "tool_calls" if called and reason == "stop" else reason
