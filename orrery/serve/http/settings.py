"""What the server allows, and how long it waits: every limit in one table."""

from __future__ import annotations

from orrery.kit.config import config

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PUBLIC = frozenset({"/health", "/ready"})
"""The routes that answer without a key, always."""


@config
class ServerSettings:
    """Limits are per request unless they say otherwise; what is beyond one gets a 4xx that names it.

    Attributes:
        api_keys: any of them opens every route; none: every route is open, which is meant for loopback.
        hosts: names by which clients may call the server (the Host header, without port). None: the loopback names where
            `host` is one of them, so that no web page can reach it by a name of its own (DNS rebinding); any name elsewhere.
        max_requests: requests under way, running or waiting; more get 429.
        max_tokens: what one choice may be asked for; also what it gets, up to the end of the context, if nothing is asked.
        max_batch: prompts or texts in one request.
        max_schema_bytes: JSON of one schema, grammar, regular expression or tool.
        read_timeout_s: for the head and the body of a request to arrive, each. write_timeout_s: for a client to take what
            stands in its buffer. request_timeout_s: from the first byte to the last.
        keep_alive_s: a stream with nothing to tell sends a comment this often.
        drain_s: how long requests under way may still take after SIGTERM.
        log_prompts: write prompts and answers to the log. Off, no text of either is ever logged.
        tracing: OpenTelemetry spans (extra `otel`).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    max_requests: int = 128
    max_body_bytes: int = 2 << 20
    max_header_bytes: int = 64 << 10
    max_tokens: int = 32_768
    max_n: int = 16
    max_logprobs: int = 20
    max_stop: int = 16
    max_tools: int = 256
    max_batch: int = 256
    max_schema_bytes: int = 64 << 10
    read_timeout_s: float = 30.0
    write_timeout_s: float = 60.0
    request_timeout_s: float = 600.0
    keep_alive_s: float = 15.0
    drain_s: float = 30.0
    log_prompts: bool = False
    tracing: bool = False

    @property
    def allowed_hosts(self) -> frozenset[str] | None:
        """Names the Host header may have; None: any."""
        if self.hosts is None:
            return frozenset(LOOPBACK) if self.host in LOOPBACK else None
        return frozenset(self.hosts)
