"""One file an endpoint: what a body asks for, and the answer in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.http.schema.common import ErrorBody
from orrery.serve.http.service import Caller, Service
from orrery.serve.http.sse import EventStream, or_gone

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered; the message says why"},
    "5XX": {"model": ErrorBody, "description": "The server cannot answer now"},
}


EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string", "description": "JSON; the last event's is [DONE]"},
    },
    "required": ["data"],
}


def streamed(model: Any) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI tells of an endpoint that answers as a whole or as a stream."""
    content = {"text/event-stream": {"schema": EVENT}}
    return {
        200: {"model": model, "content": content, "description": "The answer, or a stream of it"},
        **ERRORS,
    }


def service_of(request: Request) -> Service:
    """The service of the application."""
    return request.app.state.service


async def answered(
    request: Request,
    asked: Sequence[GenerateRequest],
    caller: Caller,
    *,
    events: Callable[[], AsyncGenerator[Any, None]],
    whole: Callable[[list[Completion]], dict[str, Any]],
    stream: bool,
) -> Response:
    """The answer to what the engine was asked: as `events` if it is to be streamed, else whole. The event loop spells no tokens."""
    service = service_of(request)
    if stream:
        settings = service.settings
        return EventStream(
            events(), keep_alive_s=settings.keep_alive_s, write_timeout_s=settings.write_timeout_s
        )
    done = await or_gone(request.receive, service.complete(list(asked), caller))
    return JSONResponse(await asyncio.to_thread(whole, done))
