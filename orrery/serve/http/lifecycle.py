"""From the first request to the last: how many are let in, and how the server ends.

SIGTERM or SIGINT: /ready turns 503 at once, so do new requests; those under way get `drain_s` to finish, the rest is cancelled;
the process ends with 0. A second signal ends it at once, with 1.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from orrery.kit.errors import OrreryError
from orrery.serve.http.connection import connection_class
from orrery.serve.http.errors import ApiError, overloaded
from orrery.serve.http.settings import ServerSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("orrery.serve")


class Gate:
    """Counts the requests under way; lets in no more than `limit`, and none while draining."""

    def __init__(self, limit: int) -> None:
        self.limit, self.running, self.draining, self.refused = limit, 0, False, 0
        self.ended = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._usual_s = 1.0  # how long a request takes, as a moving average

    def check(self) -> None:
        """
        Raises:
            ApiError: 503 while draining, 429 with Retry-After where the limit is reached.
        """
        if self.draining:
            raise shutting_down()
        if self.running >= self.limit:
            self.refused += 1
            raise overloaded(min(60, max(1, math.ceil(self._usual_s))))

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Around one request.

        Raises:
            ApiError: as `check`.
        """
        self.check()
        task = asyncio.current_task()
        assert task is not None
        self.running += 1
        self._tasks.add(task)
        started = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._tasks.discard(task)
            self._usual_s += 0.1 * (time.monotonic() - started - self._usual_s)

    def end(self) -> None:
        """Cancel what is still inside."""
        self.ended = True
        for task in self._tasks:
            task.cancel()


def shutting_down() -> ApiError:
    """503."""
    headers = {"retry-after": "5", "connection": "close"}
    return ApiError(503, "the server is shutting down", code="shutting_down", headers=headers)


def reserve(host: str, port: int) -> socket.socket:
    """A socket bound to the address; it listens once a server has it. Port 0 takes a free one.

    Raises:
        OrreryError: the address cannot be had.
    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        why = (error.strerror or str(error)).lower()
        raise OrreryError(f"cannot listen at {host}:{port} ({why}); take another --port or --host") from None
    return made


class Server(uvicorn.Server):
    """uvicorn, which on a signal first lets requests under way finish."""

    def __init__(self, app: FastAPI, settings: ServerSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=connection_class(settings),
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=settings.max_header_bytes,
            )
        )
        self.gate: Gate = app.state.gate
        self.app = app
        self.forced = False
        self._drain_s, self._deadline = settings.drain_s, math.inf

    def handle_exit(self, sig: int, frame: Any) -> None:
        """What a signal does."""
        if self.gate.draining:
            self.forced = self.force_exit = self.should_exit = True
            # What is cut off says so with a traceback, which tells whoever asked for it nothing.
            logging.getLogger("uvicorn.error").disabled = True
            return
        log.info("draining: %d requests under way", self.gate.running)
        self.gate.draining = True
        self._deadline = time.monotonic() + self._drain_s

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self.gate.draining and not self.gate.running:
            self.should_exit = True
        elif self.gate.draining and time.monotonic() > self._deadline:
            self.gate.end()
            self.should_exit = time.monotonic() > self._deadline + 1
        return await super().on_tick(counter)

    @property
    def url(self) -> str:
        """Where the server listens, once it does."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
