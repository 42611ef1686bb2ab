"""Hostile requests, case by case. Each is refused with a 400 that has a sentence, before the engine runs anything; and /health answers
meanwhile.

The other cases of the list are in the files named by what they attack: limits (bodies, heads, slow senders), auth (keys, paths, hosts),
disconnect (clients that go or do not read), overload, lifecycle (signals), errors (what is told and logged), sse (streams).
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from typing import Any

import pytest

from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from tests.serve.http.conftest import serving
from tests.serve.http.raw import ask, connect, head, post, read

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
HI = [{"role": "user", "content": "hi"}]


def schema(value: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": value}}}


def tool(name: str = "f", parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


def image(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


NESTED: dict[str, Any] = {"type": "integer"}
for _ in range(50):
    NESTED = {"type": "array", "items": NESTED}

CASES: dict[str, list[dict[str, Any]]] = {
    "SV-01 n": [{"n": n} for n in (1_000_000, 1 << 63, -1, 0, 1.5, "3", True)],
    "SV-02 best_of": [{"best_of": n} for n in (10**6, 0, -1, True)],
    "SV-03 logprobs": [{"logprobs": n} for n in (320, 10**9, -1, True)],
    "SV-04 max_tokens": [{"max_tokens": n} for n in (1 << 31, 1 << 63, -1, 0)],
    "SV-06 empty prompts": [{"prompt": p} for p in ("", [], [[]], [""], None, {})],
    "SV-07 ids": [{"prompt": [i]} for i in (-1, 100_000, 1 << 31, 1 << 63, 1.5, True, None)],
    "SV-08 stops": [{"stop": s} for s in (["x"] * 10_000, "x" * 1_000_000, "", [""], ["a", ""], [None], 3)],
    "SV-09 bias": [
        {"logit_bias": b}
        for b in (
            {str(i): 1 for i in range(100_000)}, {"100000": 1}, {"-1": 1}, {"x": 1}, {"1": 1e308}, {"1": None},
            {"99999999999999": 1}, {"1": "2"}, {"١": 1}, [1],
        )
    ],
    "SV-10 sampling": [
        {"temperature": -1}, {"temperature": 1e308}, {"top_p": 0}, {"top_p": 2}, {"top_p": -0.1}, {"top_k": -5},
        {"seed": 1 << 80}, {"presence_penalty": 1e9}, {"frequency_penalty": -1e9}, {"repetition_penalty": 0},
        {"min_p": 2}, {"typical_p": 0}, {"temperature": "1"}, {"temperature": True}, {"temperature": [1]},
    ],
    "SV-14 regexes": [
        {"response_format": {"type": "regex", "pattern": p}}
        for p in ("(", "[", "", "a" * 1_000_000, r"(a)\1", r"(?=a)b", "a{5,2}", "*", None)
    ],
    "SV-48 other media": [{"prompt_embeds": "AAAA"}, {"image": "x"}, {"audio": {"data": ""}}, {"multi_modal_data": {}}],
}  # fmt: skip
CHATS: dict[str, list[dict[str, Any]]] = {
    "SV-06 no messages": [{"messages": m} for m in ([], None, "hi", {}, [[]], [None], ["hi"])],
    "SV-06 strange messages": [
        {"messages": [{"role": r, "content": "x"}]} for r in ("", "robot", None, 1, "user\n", "<|system|>")
    ],
    "SV-12 schemas": [
        schema(s)
        for s in (
            NESTED, {"enum": list(range(50_000))}, {"type": 5}, {"type": "nothing"}, {"$ref": "http://127.0.0.1/x.json"},
            {"$ref": "file:///etc/passwd"}, {"$ref": "#/nowhere"}, {"properties": 3}, {"minLength": -1}, {"pattern": "("},
            {"$ref": "#"}, [], "x", 3, None, {"type": "string", "pattern": "a" * 100_000},
        )
    ],
    "SV-15 addresses": [
        image(u)
        for u in (
            "http://127.0.0.1:1/", "http://169.254.169.254/latest", "http://[::1]/", "http://0.0.0.0/", "http://2130706433/",
            "http://0177.0.0.1/", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "data:image/png;base64,AAAA",
        )
    ],
    "SV-16 odd addresses": [
        image(u)
        for u in (
            "http://127.0.0.1\\@evil.example/", "http://a@127.0.0.1/", "http://127。0。0。1/", "http://x/\r\nHost: y", "//127.0.0.1",
        )
    ],
    "SV-16 other parts": [
        {"messages": [{"role": "user", "content": [part]}]}
        for part in (
            {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, {"type": "file", "file": {"file_id": "x"}},
            {"type": "video_url", "video_url": {"url": "http://127.0.0.1"}}, {"type": "text"}, {"text": "x"}, {}, "x", None,
        )
    ],
    "SV-39 tools": [
        {"tools": [tool(f"f{i}") for i in range(5000)]}, {"tools": [tool(f"f{i}") for i in range(257)]},
        {"tools": [tool("a b")]}, {"tools": [tool("a\nb")]}, {"tools": [tool("a" * 1_000_000)]}, {"tools": [tool("")]},
        {"tools": [tool(), tool()]}, {"tools": []}, {"tools": {}}, {"tools": [{"type": "function"}]},
        {"tools": [tool(parameters={"type": "array"})]}, {"tools": [tool(parameters={"type": 5})], "tool_choice": "required"},
        {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"tools": [tool()], "tool_choice": "sometimes"}, {"tool_choice": "required"},
        {"tools": [tool(parameters={"$ref": "http://127.0.0.1/"})], "tool_choice": "required"},
    ],
    "SV-39 earlier calls": [
        {"messages": [*HI, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": f}]}]}
        for f in ({"name": "f", "arguments": "{"}, {"name": "f", "arguments": "[1]"}, {"name": "f", "arguments": {}}, {"name": "f"})
    ],
    "ours": [
        {"orrery": o}
        for o in (
            {"observe": [{"what": "nothing"}]}, {"observe": [{"what": "logit_lens", "layers": [99]}]},
            {"observe": [{"what": "__class__"}]}, {"observe": [{"what": "logit_lens"}] * 17}, {"steering": [{"layer": 0}]},
            {"steering": [{"layer": 0, "vector": [1.0]}]}, {"steering": [{"layer": 99, "vector": [1.0] * 32}]},
            {"steering": [{"layer": 0, "toward": "a"}]}, {"steering": [{"layer": 0, "toward": "a", "away": "a"}]}, {"x": 1}, 3,
        )
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(chat_lm):
    with serving(AsyncEngine(Engine(chat_lm, EngineConfig(max_sequences=8))), max_tokens=1000) as server:
        yield server


def quick_health(server) -> bool:
    started = time.perf_counter()
    return ask(server.port, head("GET", "/health")).status == 200 and time.perf_counter() - started < 2


def refused(server, path: str, bodies: list[dict[str, Any]]) -> None:
    before = server.engine.stats().steps
    for body in bodies:
        answer = ask(server.port, post(path, body))
        shown = json.dumps(body)[:200]
        assert answer.status == 400, (shown, answer.status, answer.body[:300])
        assert answer.json["error"]["message"], shown
    assert server.engine.stats().steps == before
    assert quick_health(server)


@pytest.mark.parametrize("case", CASES)
def test_completions(server, case: str) -> None:
    refused(server, TEXT, [{"prompt": "the cat", "max_tokens": 2, **body} for body in CASES[case]])


@pytest.mark.parametrize("case", CHATS)
def test_chats(server, case: str) -> None:
    refused(server, CHAT, [{"messages": HI, "max_tokens": 2, **body} for body in CHATS[case]])


def test_responses(server) -> None:
    """The same through the other endpoint, and what only it has."""
    bodies: list[dict[str, Any]] = [
        {"input": []}, {"input": ""}, {"input": [{"type": "input_image", "image_url": "http://127.0.0.1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "file:///etc/passwd"}]}]},
        {"tools": [{"type": "web_search"}]}, {"tools": [{"type": "mcp", "server_url": "http://127.0.0.1"}]},
        {"tools": [{"type": "code_interpreter"}]}, {"previous_response_id": "resp_x"}, {"conversation": "x"},
        {"store": True}, {"background": True}, {"prompt": {"id": "x"}}, {"include": ["file_search_call.results"]},
        {"input": [{"type": "item_reference", "id": "x"}]}, {"max_output_tokens": 0}, {"top_logprobs": 3},
        {"text": {"format": {"type": "json_schema", "name": "s", "schema": {"$ref": "http://127.0.0.1"}}}},
    ]  # fmt: skip
    refused(server, RESPONSES, [{"input": "hi", **body} for body in bodies])


def test_sv05_prompts_around_the_context(server, chat_lm) -> None:
    room = chat_lm.context
    for tokens, status in [(10 * room, 400), (room + 1, 400), (room, 200)]:
        assert ask(server.port, post(TEXT, {"prompt": [5] * tokens, "max_tokens": 1})).status == status


def test_sv11_costly_patterns_are_bounded(server) -> None:
    """Compiled within the bounds, or refused; either way within seconds, and others go on."""
    costly = [
        {"type": "regex", "pattern": "(a+)+$"},
        {"type": "regex", "pattern": r"(([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?\s?){1,40}"},
        {"type": "regex", "pattern": "(a{0,100}){0,100}"},
        schema({"type": "string", "pattern": "^(a+)+$"})["response_format"],
        schema({"type": "array", "items": {"type": "integer"}, "minItems": 0, "maxItems": 100_000})[
            "response_format"
        ],
        schema({"type": "string", "maxLength": 100_000})["response_format"],
        {"type": "regex", "pattern": "x{0,100000}"},
    ]
    for given in costly:
        started = time.perf_counter()
        answer = ask(server.port, post(CHAT, {"messages": HI, "max_tokens": 3, "response_format": given}))
        assert answer.status in (200, 400), (given, answer.body)
        assert time.perf_counter() - started < 5, given
        assert quick_health(server)


def test_sv13_many_schemas_keep_memory(server) -> None:
    """Nothing compiled is kept for a later request."""
    import psutil

    process = psutil.Process()

    def some(start: int, count: int) -> int:
        for i in range(start, start + count):
            given = schema(
                {
                    "type": "object",
                    "properties": {f"field_{i}": {"enum": [f"v{i}", i]}},
                    "required": [f"field_{i}"],
                }
            )
            assert ask(server.port, post(CHAT, {"messages": HI, "max_tokens": 1, **given})).status == 200
        return process.memory_info().rss

    warm = some(0, 50)
    assert some(50, 100) - warm < 20 << 20


def test_sv31_tenants_share_no_prefix(chat_lm) -> None:
    prompt = [7] * 200
    with serving(AsyncEngine(Engine(chat_lm)), api_keys=("a", "b")) as server:
        cached = [
            ask(
                server.port, post(TEXT, {"prompt": prompt, "max_tokens": 1}, f"Authorization: Bearer {key}")
            ).json["usage"]["prompt_tokens_details"]["cached_tokens"]
            for key in ("a", "b", "a", "b")
        ]
    assert cached[:2] == [0, 0]
    assert min(cached[2:]) >= 160


def test_sv34_log_lines_cannot_be_forged(server, caplog) -> None:
    with caplog.at_level(logging.DEBUG):
        for field in ("model", "user"):
            ask(
                server.port, post(CHAT, {"messages": HI, field: "x\n2026 ERROR forged \x1b[31m" + "y" * 5000})
            )
        ask(server.port, head("GET", "/x%0d%0aforged%1b[31m"))
    assert all("\n" not in r.getMessage() and "\x1b" not in r.getMessage() for r in caplog.records)
    assert max(len(r.getMessage()) for r in caplog.records) < 1000


def test_sv40_tool_calls_that_hurt_a_parser(chat_lm) -> None:
    """A megabyte of brackets, quotes without end, nesting: read in linear time, given back as the text it is."""
    from orrery.serve.http.answer import Reader

    mark = "<|tool_call|>"
    for text in (
        mark + "[" * 1_000_000,
        mark + '{"name": "' + "a" * 1_000_000,
        (mark + "{") * 10_000,
        mark + '{"a":' * 10_000,
    ):
        for pieces in ([text], [text[i : i + 1000] for i in range(0, len(text), 1000)]):
            reader = Reader(chat_lm.chat, inside_reasoning=False, tools=[tool()])
            started = time.perf_counter()
            deltas = [reader.push(piece) for piece in pieces] + [reader.end()]
            assert time.perf_counter() - started < 5
            assert len("".join(delta.content for delta in deltas)) >= 0.9 * len(text) or reader.called


def test_sv42_pipelined_requests_get_one_answer_each(server) -> None:
    with connect(server.port) as sock:
        sock.sendall(head("GET", "/health") * 3 + head("GET", "/ready", "Connection: close"))
        data = b""
        while piece := sock.recv(65536):
            data += piece
    assert data.count(b"HTTP/1.1 200 OK") == 4
    with connect(server.port) as sock:
        body = json.dumps({"prompt": "x", "max_tokens": 1}).encode()
        sock.sendall(
            head(
                "POST",
                TEXT,
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
                "Expect: 100-continue",
            )
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        assert read(sock).status == 200


def test_sv46_a_clock_that_jumps_ends_nothing(server, monkeypatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert ask(server.port, post(TEXT, {"prompt": "x", "max_tokens": 3})).status == 200
    monkeypatch.setattr(time, "time", lambda: now + 36_000)
    assert ask(server.port, post(TEXT, {"prompt": "x", "max_tokens": 3})).status == 200


def test_sv47_one_listening_socket_and_it_is_loopback(server) -> None:
    import psutil

    listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


def test_no_request_reaches_another_host_or_a_file(server, tmp_path) -> None:
    """A listener that addresses of all kinds in all fields point to is never called."""
    called: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"

        def listen() -> None:
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                try:
                    called.append(listener.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        secret = tmp_path / "secret"
        secret.write_text("do not tell")
        for text in (url, f"file://{secret}", str(secret), f"{{% include '{secret}' %}}"):
            for body in (
                image(text), {"messages": [{"role": "user", "content": text}]}, {"messages": HI, "model": text},
                {"messages": HI, "orrery": {"adapter": text}}, {"messages": HI, **schema({"$ref": text})}, {"messages": HI, "user": text},
            ):  # fmt: skip
                answer = ask(server.port, post(CHAT, {"max_tokens": 1, **body}))
                assert answer.status in (200, 400, 404)
                assert b"do not tell" not in answer.body
        thread.join()
    assert not called
