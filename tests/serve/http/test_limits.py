"""Bodies, heads and numbers beyond what is allowed; and that others are not disturbed meanwhile."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from tests.serve.http.conftest import serving, until
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, connect, head, post, read

LIMIT = 100_000


@pytest.fixture(scope="module")
def server(chat_lm):
    with serving(
        FakeEngine(chat_lm), max_body_bytes=LIMIT, read_timeout_s=0.5, max_n=4, max_tokens=100, max_batch=3
    ) as server:
        yield server


def test_a_body_that_says_it_is_too_large_is_refused_at_once(server) -> None:
    with connect(server.port) as sock:
        sock.sendall(
            head("POST", "/v1/completions", "Content-Type: application/json", "Content-Length: 100000000")
        )
        answer = read(sock)
    assert answer.status == 413
    assert answer.json["error"]["code"] == "body_too_large"


def test_chunks_without_end_stop_at_the_limit(server) -> None:
    with connect(server.port) as sock:
        sock.sendall(
            head("POST", "/v1/completions", "Content-Type: application/json", "Transfer-Encoding: chunked")
        )
        sent = 0
        try:
            while sent < 100 * LIMIT:
                sock.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
                sent += 0x4000
        except OSError:
            pass  # the server has hung up
        assert sent < 100 * LIMIT


def test_a_large_body_within_the_limit_is_read(server) -> None:
    body = json.dumps({"model": "tiny", "prompt": "the cat", "max_tokens": 1}).encode()
    body += b" " * (LIMIT - len(body))
    assert ask(server.port, post("/v1/completions", body)).status == 200
    assert ask(server.port, post("/v1/completions", body + b" ")).status == 413


def test_compressed_bodies_are_not_opened(server) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    assert ask(server.port, post("/v1/completions", bomb, "Content-Encoding: gzip")).status == 415


def test_heads_are_bounded(server) -> None:
    assert ask(server.port, head("GET", "/health", "X: " + "a" * 70_000)).status == 431
    assert ask(server.port, head("GET", "/" + "a" * 20_000)).status == 414
    many = [f"X-{i}: 1" for i in range(10_000)]
    assert ask(server.port, head("GET", "/health", *many)).status == 431


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : a\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_and_closed(server, request_bytes) -> None:
    answer = ask(server.port, request_bytes)
    assert 400 <= answer.status < 502 and answer.status not in (500,)
    assert answer.json["error"]["message"]


def test_a_length_and_chunks_together_are_one_request(server) -> None:
    """What two readers could take for two requests (smuggling) is read once, as chunks, or refused."""
    smuggled = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    request = head("POST", "/health", f"Content-Length: {len(smuggled)}", "Transfer-Encoding: chunked")
    with connect(server.port) as sock:
        sock.sendall(request + smuggled)
        first = read(sock)
    assert first.status in (400, 405)


def test_slow_senders_are_let_go(server) -> None:
    slow = [connect(server.port) for _ in range(20)]
    for at, sock in enumerate(slow):
        sock.sendall(b"GET /hea" if at % 2 else head("POST", "/v1/completions", "Content-Length: 10") + b"{")
    started = time.perf_counter()
    assert ask(server.port, head("GET", "/health")).status == 200
    assert time.perf_counter() - started < 1
    for at, sock in enumerate(slow):
        if at % 2:
            assert sock.recv(100) == b""
        else:
            assert read(sock).status == 408
        sock.close()
    until(lambda: server.app.state.gate.running == 0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 5}, "n"),
        ({"n": 1_000_000}, "n"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"prompt": ["a"] * 4}, "prompt (how many)"),
        ({"logprobs": 21}, "logprobs"),
        ({"best_of": 5}, "best_of"),
        ({"stop": ["x"] * 17}, "stop (strings)"),
    ],
)
def test_numbers_beyond_the_limits_name_themselves(server, body, param) -> None:
    answer = ask(server.port, post("/v1/completions", {"model": "tiny", "prompt": "the", **body}))
    assert answer.status == 400
    assert answer.json["error"]["param"] == param


def test_the_context_bounds_the_prompt(server, chat_lm) -> None:
    ids = [1] * chat_lm.context
    fits = ask(server.port, post("/v1/completions", {"prompt": ids, "max_tokens": 50}))
    assert fits.status == 200
    assert fits.json["usage"]["completion_tokens"] == 1
    for more in (1, 9 * chat_lm.context):
        answer = ask(server.port, post("/v1/completions", {"prompt": ids + [1] * more}))
        assert answer.status == 400
        assert answer.json["error"]["code"] == "context_length_exceeded"
