"""What a request may weigh: its body while it is read, and the numbers and texts inside once it is understood."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from orrery.kit.json import JsonFault, parse_json
from orrery.serve.http.errors import ApiError
from orrery.serve.http.settings import ServerSettings

MAX_DEPTH = 64
MAX_VALUES = 200_000
CLOSE = {"connection": "close"}


def check_head(scope: Any, settings: ServerSettings) -> None:
    """The parser bounds a head that comes in parts; this bounds one that came whole.

    Raises:
        ApiError: 414 or 431.
    """
    if len(scope["raw_path"]) + len(scope["query_string"]) > settings.max_header_bytes // 4:
        raise ApiError(414, "the address is too long", headers=CLOSE)
    if sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > settings.max_header_bytes:
        raise ApiError(431, "the head of the request is too large", headers=CLOSE)


async def read_body(receive: Any, headers: Sequence[tuple[bytes, bytes]], settings: ServerSettings) -> bytes:
    """The bytes of a request, at most `max_body_bytes` of them in at most `read_timeout_s`.

    Raises:
        ApiError: 413 as soon as it is clear that there are more, 408 if they do not come, 415 for a compressed body.
        ConnectionError: the client went away.
    """
    limit = settings.max_body_bytes
    beyond = ApiError(413, f"the body is larger than {limit:,} bytes", code="body_too_large", headers=CLOSE)
    given = dict(headers)
    if given.get(b"content-encoding", b"identity") != b"identity":
        raise ApiError(415, "compressed bodies are not taken", headers=CLOSE)
    length = given.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > limit:
        raise beyond
    body = bytearray()
    try:
        async with asyncio.timeout(settings.read_timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ConnectionError("the client went away")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise beyond
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(408, "the body did not arrive in time", code="timeout", headers=CLOSE) from None


def check_json(body: bytes) -> None:
    """Refuse what readers of JSON disagree on (keys given twice, NaN, halves of characters) and what is too deep or large.

    Raises:
        ApiError: 400.
    """
    try:
        parse_json(body, max_depth=MAX_DEPTH, max_values=MAX_VALUES)
    except JsonFault as error:
        raise ApiError(
            400, f"the body is not JSON as it must be here: {error}", code="invalid_json"
        ) from None


def at_most(given: int | None, limit: int, name: str) -> None:
    """
    Raises:
        ApiError: 400, `given` is more than this server's limit.
    """
    if given is not None and given > limit:
        raise ApiError(400, f"{name} is {given:,}; this server allows at most {limit:,}", param=name)


def check_schema(value: Any, settings: ServerSettings, name: str) -> str:
    """The JSON text of a schema within the limit.

    Raises:
        ApiError: 400.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    at_most(len(text.encode()), settings.max_schema_bytes, f"{name} (bytes)")
    return text


def refuse(message: str, param: str | None = None) -> ApiError:
    """400 with a sentence."""
    return ApiError(400, message, param=param)
