"""Who may come in: a key in the Authorization header, compared in constant time, and the Host the client calls us by.

`Bearer KEY` is OpenAI's way. `Basic` with the key as password is what a browser sends once a person has typed it, which is how
the page opens on a server with a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from orrery.serve.http.errors import ApiError
from orrery.serve.http.settings import PUBLIC, ServerSettings

Headers = Sequence[tuple[bytes, bytes]]


class Keys:
    """The keys that open the server. Kept as digests, so that comparing takes as long for every guess."""

    def __init__(self, settings: ServerSettings) -> None:
        self._digests = tuple(_digest(key.encode()) for key in settings.api_keys)

    def tenant(self, path: str, headers: Headers) -> str:
        """The caller's name, by which prefixes are cached apart ("" where there are no keys).

        Raises:
            ApiError: 401, the path is not public and no key was given, or a wrong one.
        """
        if not self._digests:
            return ""
        given = [value for name, value in headers if name == b"authorization"]
        digest = _digest(_key(given[0])) if len(given) == 1 else b""
        known = [hmac.compare_digest(digest, key) for key in self._digests]  # all of them, whichever fits
        if any(known):
            return hashlib.sha256(b"tenant" + digest).hexdigest()[:16]
        if path in PUBLIC:
            return ""
        page = path == "/" or path.startswith("/page/")
        challenge = 'Basic realm="orrery"' if page else 'Bearer realm="orrery"'
        raise ApiError(
            401,
            "a key is needed: send it as 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"www-authenticate": challenge},
        )


def check_host(settings: ServerSettings, headers: Headers) -> None:
    """Refuse a name we are not called by.

    Raises:
        ApiError: 403.
    """
    allowed = settings.allowed_hosts
    if allowed is None:
        return
    given = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if len(given) != 1 or _name(given[0]) not in allowed:
        raise ApiError(403, "the Host header names no address of this server", code="host_not_allowed")


def _name(host: str) -> str:
    """Without port; [::1]:80 -> ::1."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _key(header: bytes) -> bytes:
    scheme, _, rest = header.partition(b" ")
    if scheme == b"Bearer":
        return rest
    if scheme == b"Basic":
        try:
            return base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
