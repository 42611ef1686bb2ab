"""One file an endpoint: what a body asks for, and the answer in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from orrery.serve.http.schema.common import ErrorBody
from orrery.serve.http.service import Service

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
