"""Streams of server-sent events (the HTML standard, section 9.2) and waiting that ends when the client goes.

    data: {"choices": [...]}\\n\\n      one event; the JSON is encoded whole, so no character is ever split
    : waiting\\n\\n                     a comment while there is nothing to tell, so that nobody between us gives up
    data: [DONE]\\n\\n                  the end

Until the first event is there nothing is sent, so that a request the engine refuses gets a status of its own; after a second
of waiting the headers go out, and what goes wrong later is an event that holds the error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from starlette.responses import Response

from orrery.serve.http.errors import Gone, as_api_error

T = TypeVar("T")
GRACE_S = 1.0
"""A refusal takes less than this."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


Event = tuple[str | None, Mapping[str, Any]]
"""The event's name (None: a plain `data` line), and its JSON."""


def encoded(event: Event) -> bytes:
    """The bytes of an event."""
    name, data = event
    line = f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))}\n\n"
    return (line if name is None else f"event: {name}\n{line}").encode()


async def or_gone(receive: Any, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client goes.

    Raises:
        Gone: it went.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        await _cancelled(task, gone)


class EventStream(Response):
    """An answer that iterates `events` while the client listens, and closes them when it goes or stops reading."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[Event], *, keep_alive_s: float, write_timeout_s: float) -> None:
        super().__init__()
        self._events, self._keep_alive_s, self._write_timeout_s = events, keep_alive_s, write_timeout_s
        self._started = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await self._run(gone, send)
        except (Gone, TimeoutError, OSError):
            if not self._started and not gone.done():
                raise  # the engine's own time-out: it has a status
        finally:
            await _cancelled(gone)
            await self._events.aclose()  # type: ignore[attr-defined]

    async def _run(self, gone: asyncio.Future[Any], send: Any) -> None:
        wait_s = GRACE_S
        following = asyncio.ensure_future(_next(self._events))
        try:
            while True:
                await asyncio.wait({following, gone}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise Gone
                wait_s = self._keep_alive_s
                if not following.done():
                    await self._send(send, b": waiting\n\n")
                    continue
                try:
                    event = following.result()
                except Exception as error:
                    if not self._started:
                        raise
                    await self._send(send, encoded((None, as_api_error(error).body)))
                    event = None
                if event is None:
                    await self._send(send, b"data: [DONE]\n\n", more=False)
                    return
                following = asyncio.ensure_future(_next(self._events))
                await self._send(send, encoded(event))
        finally:
            await _cancelled(following)

    async def _send(self, send: Any, data: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._write_timeout_s):
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": data, "more_body": more})


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
