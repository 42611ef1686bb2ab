"""The one way in, before any route: which host was meant, who calls, whether there is room, and the body within its limits.

Plain ASGI around the application, so that nothing stands between a route and the client's going away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext, suppress
from typing import Any

from orrery.serve.http.auth import Keys, check_host
from orrery.serve.http.errors import ApiError, as_api_error
from orrery.serve.http.lifecycle import Gate, shutting_down
from orrery.serve.http.limits import check_head, check_json, read_body
from orrery.serve.http.metrics import Metrics
from orrery.serve.http.settings import PUBLIC, ServerSettings

log = logging.getLogger("orrery.serve")
LINGER_S = 1.0
OPEN_WHILE_DRAINING = PUBLIC | {"/metrics"}
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]


class Door:
    """ASGI middleware."""

    def __init__(self, app: Any, *, settings: ServerSettings, gate: Gate, metrics: Metrics) -> None:
        self.app, self.settings, self.gate, self.metrics = app, settings, gate, metrics
        self.keys = Keys(settings)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        answer = _Answer(send)
        started = time.monotonic()
        try:
            await self._enter(scope, receive, answer)
        except ConnectionError:
            pass  # nobody is there to be told
        except asyncio.CancelledError:
            if not self.gate.ended:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]
            await self._refuse(receive, answer, shutting_down())
        except Exception as error:
            await self._refuse(receive, answer, error)
        finally:
            self._tell(scope, answer.status, time.monotonic() - started)

    async def _enter(self, scope: Any, receive: Any, send: _Answer) -> None:
        path, headers = scope["path"], scope["headers"]
        check_head(scope, self.settings)
        check_host(self.settings, headers)
        tenant = self.keys.tenant(path, headers)
        works = scope["method"] == "POST"
        if works or path not in OPEN_WHILE_DRAINING:
            self.gate.check() if works else self._check_draining()
        body = await read_body(receive, headers, self.settings)
        if body and b"json" in dict(headers).get(b"content-type", b"").lower():
            check_json(body)  # of another type, or empty, the routes refuse it
        scope["state"] = {**scope.get("state", {}), "tenant": tenant}
        with self.gate.inside() if works else nullcontext():
            await self.app(scope, _again(body, receive), send)

    def _check_draining(self) -> None:
        if self.gate.draining:
            self.gate.check()

    async def _refuse(self, receive: Any, send: _Answer, error: Exception) -> None:
        if send.status:  # too late for another: uvicorn breaks off an answer that is not whole
            return
        said = as_api_error(error)
        if said.status == 429:
            self.metrics.refused.inc()
        with suppress(OSError):
            await self._say(said, receive, send)

    async def _say(self, said: ApiError, receive: Any, send: _Answer) -> None:
        """Answer; where the connection is to be closed, first let the client finish writing, else it never reads this."""
        response = said.response()
        closing = said.headers.get("connection") == "close"
        await send({"type": "http.response.start", "status": said.status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": closing})
        if closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await self._discard(receive)
            await send({"type": "http.response.body", "body": b""})

    async def _discard(self, receive: Any) -> None:
        left = 8 * self.settings.max_body_bytes
        while (
            left > 0 and (message := await receive())["type"] == "http.request" and message.get("more_body")
        ):
            left -= len(message["body"])

    def _tell(self, scope: Any, status: int, seconds: float) -> None:
        self.metrics.answers.labels(status=str(status or 499)).inc()
        if scope["path"] not in OPEN_WHILE_DRAINING:
            line = ascii(f"{scope['method'][:16]} {scope['path'][:200]}")[
                1:-1
            ]  # no line ends, no terminal codes
            log.info("%s %s %.0f ms", line, status or "gone", 1000 * seconds)


class _Answer:
    """`send`, which remembers the status and adds the headers that every answer has."""

    def __init__(self, send: Any) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *SECURITY]}
        await self._send(message)


def _again(body: bytes, receive: Any) -> Any:
    """`receive` that gives the body once more, then whatever comes (the client's going away)."""
    given = False

    async def next_message() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
