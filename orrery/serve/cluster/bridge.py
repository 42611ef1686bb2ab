"""An ASGI application asked without a network: a request goes in as a value, the answer comes out in pieces.

async with aclosing(answer(app, request)) as parts:
    head = await anext(parts)            # Head(status, headers)
    async for chunk in parts: ...        # bytes, as the application sends them; closing tells it that the client has gone
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orrery.serve.cluster.router import prefix_digests

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class HttpRequest:
    """A whole request; `path` without the query."""

    method: str
    path: str
    query: bytes = b""
    headers: Headers = ()
    body: bytes = b""

    def digests(self) -> list[bytes]:
        """Names of the beginning of what the model will read, by which it is routed: of one caller and one model or adapter."""
        try:
            body = json.loads(self.body)
        except ValueError:
            body = None
        body = body if isinstance(body, dict) else {}
        prompt = body.get("prompt", body.get("input", ""))
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], list | str):
            prompt = prompt[0]  # a batch goes where its first one is known
        ids = isinstance(prompt, list) and all(isinstance(i, int) and abs(i) < 1 << 63 for i in prompt)
        if "messages" in body or not (ids or isinstance(prompt, str)):
            prompt = json.dumps([body.get("tools"), body.get("instructions"), body.get("messages", prompt)])
        caller = dict(self.headers).get(b"authorization", b"").decode("latin-1")
        return prefix_digests(prompt, tenant=f"{caller} {body.get('model')}")


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    status: int
    headers: Headers


async def answer(app: Any, request: HttpRequest) -> AsyncIterator[Head | bytes]:
    """The head, then the body's pieces; what the application raises is raised here."""
    sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    gone = asyncio.Event()
    body = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await app(_scope(request), receive, sent.put)
        finally:
            sent.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while (message := await sent.get()) is not None:
            if message["type"] == "http.response.start":
                yield Head(
                    message["status"], tuple((bytes(k), bytes(v)) for k, v in message.get("headers", ()))
                )
            elif message.get("body"):
                yield bytes(message["body"])
        await task
    finally:
        gone.set()
        if not task.done():
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.wait_for(task, 5)


def _scope(request: HttpRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers),
        "client": None,
        "server": None,
        "state": {},
    }
