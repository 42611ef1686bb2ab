"""One connection: uvicorn's HTTP/1.1 with a time for the head of a request to arrive, and errors of the parser as JSON.

The parser is h11, which bounds the head (`max_header_bytes`) and refuses what two readers could take for different requests
(both Content-Length and chunks, odd line ends).
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orrery.serve.http.errors import error_body
from orrery.serve.http.settings import ServerSettings


def connection_class(settings: ServerSettings) -> type[H11Protocol]:
    """The protocol for uvicorn's `http` option."""

    class Connection(H11Protocol):
        head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._time_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._time_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _time_head(self) -> None:
            """A head that has begun must be whole in time; each byte does not begin the time anew."""
            if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
                self._stop_timer()
            elif self.head_timer is None:
                self.head_timer = self.loop.call_later(settings.read_timeout_s, self.transport.abort)

        def _stop_timer(self) -> None:
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def send_400_response(self, msg: str) -> None:
            """Called while a parser's error is handled: the status is the one it names (400, 431, 501)."""
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                self.transport.abort()
                return
            status = getattr(sys.exc_info()[1], "error_status_hint", 400)
            text = "the head of the request is too large" if status == 431 else "this is not an HTTP request"
            body = json.dumps(error_body(status, text)).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Connection
