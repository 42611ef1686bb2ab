"""Every answer that is no success has OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from orrery.kit.errors import OrreryError
from orrery.serve.engine.async_engine import EngineStopped
from orrery.serve.engine.engine import QueueFull

log = logging.getLogger("orrery.serve")

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}
LONGEST = 400
"""characters of a message: an error never sends a request's own megabyte back."""


class Gone(Exception):
    """The client closed the connection."""


class ApiError(Exception):
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        return error_body(self.status, self.message, code=self.code, param=self.param)

    def response(self) -> JSONResponse:
        """As an answer."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def error_body(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The JSON of an error: one line, cut where it is long."""
    message = " ".join(message.split())
    shown = message if len(message) <= LONGEST else f"{message[: LONGEST - 3]}..."
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": shown, "type": kind, "param": param, "code": code}}


def overloaded(
    retry_after_s: int, message: str = "too many requests are under way; try again later"
) -> ApiError:
    """429 with Retry-After."""
    return ApiError(429, message, code="overloaded", headers={"retry-after": str(retry_after_s)})


def as_api_error(error: BaseException) -> ApiError:
    """What a client is told of an exception. Of our own faults it is told nothing but that."""
    match error:
        case ApiError():
            return error
        case QueueFull():
            return overloaded(1, str(error))
        case EngineStopped():
            return ApiError(503, str(error), code="engine_stopped", headers={"retry-after": "5"})
        case OrreryError():
            return ApiError(400, str(error))
        case RequestValidationError():
            return _validation(error)
        case HTTPException():
            return ApiError(error.status_code, _told(error), headers=error.headers)
        case TimeoutError():
            return ApiError(504, "the request took longer than this server allows", code="timeout")
    tell_fault(error)
    return ApiError(500, "a fault in the server; its log says more", code="internal_error")


def tell_fault(error: BaseException) -> None:
    """Log where a fault is, without its message, which may quote the request."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("fault: %s\n%s", type(error).__name__, where.rstrip())


def install(app: FastAPI) -> None:
    """Answer every exception of a route in this shape."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    async def nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=499)

    for kind in (ApiError, OrreryError, RequestValidationError, HTTPException, TimeoutError):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(Gone, nobody)


def _told(error: HTTPException) -> str:
    told = {404: "there is nothing at this address", 405: "this address does not take this method"}
    return told.get(error.status_code, str(error.detail))


def _validation(error: RequestValidationError) -> ApiError:
    """The first fault of a body: where, and which rule."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"][1:] if isinstance(part, int) or _is_field(part)]
    param = ".".join(place)[:200] or None
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not JSON")
    message = str(first["msg"])
    if first["type"] == "extra_forbidden":
        param, message = str(first["loc"][-1])[:100], "this field is not known here"
    return ApiError(400, f"{param}: {message}" if param else message, param=param)


def _is_field(part: str) -> bool:
    """Whether a part of pydantic's path is a field's name, rather than that of a type it tried."""
    return (
        part.isidentifier() and part.islower() and part not in ("str", "int", "float", "bool", "list", "dict")
    )
