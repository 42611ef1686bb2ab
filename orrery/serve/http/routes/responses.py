"""/v1/responses: items in, items out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orrery.kit.lm import Completion
from orrery.serve.http.answer import Asked, prepare
from orrery.serve.http.formats import grammar_of
from orrery.serve.http.items import Items, messages_of_items, tools_of_items
from orrery.serve.http.limits import at_most, refuse
from orrery.serve.http.routes import answered, service_of, streamed
from orrery.serve.http.schema.common import JsonObjectFormat, JsonSchema, JsonSchemaFormat
from orrery.serve.http.schema.responses import (
    JsonObjectText,
    JsonSchemaText,
    NamedFunctionTool,
    ResponseObject,
    ResponseRequest,
)
from orrery.serve.http.service import Caller, Service, new_id, usage_of
from orrery.serve.http.views import answer_extra, chat_logprobs, choice_extra, spoken

router = APIRouter()


@router.post("/v1/responses", responses=streamed(ResponseObject))
async def responses(body: ResponseRequest, request: Request) -> Response:
    """Answer a list of items. Nothing is stored: send the whole conversation each time."""
    service = service_of(request)
    caller = await service.caller(request, "chat", body.model, body.orrery)
    asked = await asyncio.to_thread(_asked, service, body, caller)
    maker = _Maker(service, body, caller, asked)
    return await answered(
        request, [asked.request], caller,
        events=maker.events, whole=lambda done: maker.whole(done[0]), stream=bool(body.stream),
    )  # fmt: skip


def _asked(service: Service, body: ResponseRequest, caller: Caller) -> Asked:
    settings = service.settings
    at_most(body.top_logprobs, settings.max_logprobs, "top_logprobs")
    if body.top_logprobs and not body.include:
        raise refuse("top_logprobs needs include: ['message.output_text.logprobs']", "top_logprobs")
    choice = body.tool_choice
    effort = body.reasoning.effort if body.reasoning else None
    knows_effort = service.lm.chat is not None and "reasoning_effort" in service.lm.chat.template
    return prepare(
        service,
        body,
        caller,
        messages=messages_of_items(body),
        tools=tools_of_items(body),
        tool_choice=choice.name if isinstance(choice, NamedFunctionTool) else choice,
        named=isinstance(choice, NamedFunctionTool),
        parallel=body.parallel_tool_calls,
        variables={"reasoning_effort": effort} if effort is not None and knows_effort else {},
        grammar=grammar_of(_format(body), settings),
        max_tokens=body.max_output_tokens,
        logprobs=(body.top_logprobs or 0) if body.include else None,
    )


def _format(body: ResponseRequest) -> Any:
    """text.format as chat's response_format."""
    match body.text.format if body.text else None:
        case JsonObjectText():
            return JsonObjectFormat(type="json_object")
        case JsonSchemaText() as given:
            inner = JsonSchema(name=given.name, schema=given.schema_, strict=given.strict)
            return JsonSchemaFormat(type="json_schema", json_schema=inner)
    return None


class _Maker:
    """The answer, whole or as events."""

    def __init__(self, service: Service, body: ResponseRequest, caller: Caller, asked: Asked) -> None:
        self.service, self.body, self.caller, self.asked = service, body, caller, asked
        self.id, self.created = new_id("resp_"), int(time.time())

    def response(self, status: str, items: list[dict[str, Any]], made: Completion | None) -> dict[str, Any]:
        """The response object."""
        body, request = self.body, self.asked.request
        answer = {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.caller.model,
            "output": items,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            "tool_choice": _plain(body.tool_choice) or "auto",
            "tools": [_plain(tool) for tool in body.tools or ()],
            "text": _plain(body.text) or {"format": {"type": "text"}},
            "truncation": "disabled",
            "store": False,
            "metadata": body.metadata or {},
            "usage": None if made is None else self._usage(made),
            "system_fingerprint": self.service.fingerprint,
        }
        if body.orrery is not None:
            answer["orrery"] = answer_extra(request, made) | (
                {} if made is None else choice_extra(made.ids[: self._kept(made)], made.observed)
            )
        return answer

    def whole(self, made: Completion) -> dict[str, Any]:
        """The answer at once: what the events would have built."""
        items = Items()
        said = self.asked.reader()
        kept = self._kept(made)
        items.take(said.push(made.text) + said.end(), self._logprobs(made, kept))
        items.close(_status(made.finish_reason))
        return self.response(_status(made.finish_reason), items.done, made)

    async def events(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """The answer as numbered events."""
        number = 0

        def event(kind: str, **fields: Any) -> tuple[str, dict[str, Any]]:
            nonlocal number
            number += 1
            return kind, {"type": kind, "sequence_number": number - 1, **fields}

        items, reader = Items(), self.asked.reader()
        async with aclosing(self.service.updates([self.asked.request], self.caller)) as updates:
            yield event("response.created", response=self.response("in_progress", [], None))
            yield event("response.in_progress", response=self.response("in_progress", [], None))
            async for _, update in updates:
                delta = reader.push(update.text)
                if update.finish_reason is not None:
                    delta += reader.end()
                kept = spoken(update.ids, update.finish_reason, self.asked.request, self.service.lm.stop_ids)
                for kind, fields in items.take(delta, self._logprobs(update, kept)):
                    yield event(kind, **fields)
                if update.completion is not None:
                    status = _status(update.completion.finish_reason)
                    for kind, fields in items.close(status):
                        yield event(kind, **fields)
                    yield event(
                        f"response.{status}", response=self.response(status, items.done, update.completion)
                    )

    def _logprobs(self, made: Any, kept: int) -> list[dict[str, Any]]:
        if not self.body.include:
            return []
        parts = made.ids[:kept], made.logprobs[:kept], made.top_logprobs[:kept]
        return chat_logprobs(self.service.lm.tokenizer, *parts, self.body.top_logprobs or 0)["content"]

    def _kept(self, made: Completion) -> int:
        return spoken(made.ids, made.finish_reason, self.asked.request, self.service.lm.stop_ids)

    def _usage(self, made: Completion) -> dict[str, Any]:
        usage = usage_of([self.asked.request], [made])
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
        }


def _status(finish: str) -> str:
    return "incomplete" if finish == "length" else "completed"


def _plain(value: Any) -> Any:
    return value.model_dump(by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value
