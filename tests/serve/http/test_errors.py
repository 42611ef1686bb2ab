"""Every answer that is no success has OpenAI's shape, and tells nothing of the server."""

from __future__ import annotations

import json
import logging
import re

import pytest

from orrery.kit.errors import OrreryError
from orrery.serve.engine.async_engine import EngineStopped
from orrery.serve.engine.engine import QueueFull
from tests.serve.http.conftest import serving
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, head, post


@pytest.fixture(scope="module")
def server(chat_lm):
    with serving(FakeEngine(chat_lm)) as server:
        yield server


CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
BAD: list[tuple[bytes, int]] = [
    (head("GET", "/nothing"), 404),
    (head("GET", "/page/../app.py"), 404),
    (head("GET", "/page/%2e%2e/app.py"), 404),
    (head("GET", "/page//etc/passwd"), 404),
    (head("GET", "/v1/completions"), 405),
    (head("DELETE", "/v1/models"), 405),
    (post(CHAT, {"messages": HI, "model": "other"}), 404),
    (post(CHAT, {"messages": HI, "model": "../../etc/passwd"}), 404),
    (post(CHAT, {"messages": HI, "model": "m" * 1_000_000}), 400),
    (post(CHAT, {"messages": HI, "orrery": {"adapter": "../x"}}), 404),
    (post(CHAT, b""), 400),
    (post(CHAT, b"{"), 400),
    (post(CHAT, b"[]"), 400),
    (post(CHAT, b"null"), 400),
    (post(CHAT, b"3"), 400),
    (post(CHAT, b'"text"'), 400),
    (post(CHAT, b'{"messages": [], "messages": []}'), 400),
    (post(CHAT, b'{"temperature": NaN}'), 400),
    (post(CHAT, b"[" * 100_000), 400),
    (post(CHAT, b'{"messages": "\\ud800"}'), 400),
    (post(CHAT, json.dumps({"messages": HI}).encode("utf-16")), 400),
    (post(CHAT, b"\xef\xbb\xbf{}"), 400),
    (post(CHAT, b'{"model": "\xff"}'), 400),
    (head("POST", CHAT, "Content-Type: text/plain", "Content-Length: 2") + b"{}", 400),
    (post(CHAT, {"messages": []}), 400),
    (post(CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1"}}]}]}), 400),
    (post(CHAT, {"messages": [{"role": "user", "content": "x", "audio": "AAAA"}]}), 400),
    (post(CHAT, {"messages": HI, "prompt_embeds": "AAAA"}), 400),
    (post(CHAT, {"messages": HI, "unknown": 1}), 400),
    (post(CHAT, {"messages": HI, "tools": [], "tool_choice": "auto"}), 400),
    (post(CHAT, {"messages": HI, "tool_choice": "required"}), 400),
    (post(CHAT, {"messages": HI, "top_logprobs": 2}), 400),
    (post(CHAT, {"messages": HI, "temperature": -1}), 400),
    (post("/v1/completions", {"prompt": [True]}), 400),
    (post("/v1/completions", {"prompt": [1.5]}), 400),
    (post("/v1/completions", {"prompt": [-1]}), 400),
    (post("/v1/completions", {"prompt": [1 << 31]}), 400),
    (post("/v1/completions", {"prompt": [300_000]}), 400),
    (post("/v1/completions", {"prompt": [1, 2], "suffix": "y"}), 400),
    (post("/detokenize", {"ids": [300_000]}), 400),
    (post("/tokenize", {}), 400),
    (post("/v1/embeddings", {"input": ""}), 400),
    (post("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}), 400),
    (post("/v1/responses", {"input": "x", "store": True}), 400),
    (post("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}]}), 400),
]  # fmt: skip
SECRETS = re.compile(
    r"/work|/home|/usr|site-packages|Traceback|line \d+, in|\.py\b|pydantic|starlette|uvicorn"
)


@pytest.mark.parametrize(("request_bytes", "status"), BAD)
def test_bad_requests(server, request_bytes: bytes, status: int) -> None:
    answer = ask(server.port, request_bytes)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert set(answer.json) == {"error"} and set(error) == {"message", "type", "param", "code"}
    assert error["message"] and len(answer.body) < 2000
    assert not SECRETS.search(answer.body.decode()), answer.body


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (QueueFull("full"), 429),
        (EngineStopped("stopped"), 503),
        (OrreryError("no"), 400),
        (RuntimeError("secret words"), 500),
        (TimeoutError(), 504),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_raises(server, caplog, fault, status, stream) -> None:
    server.engine.fault = fault
    with caplog.at_level(logging.DEBUG):
        answer = ask(server.port, post("/v1/completions", {"prompt": "the", "stream": stream}))
    server.engine.fault = None
    assert answer.status == status
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert "secret" not in answer.body.decode() + caplog.text
    assert ask(server.port, head("GET", "/health")).status == 200


def test_a_base_model_says_that_it_cannot_chat(base_lm) -> None:
    with serving(FakeEngine(base_lm)) as server:
        answer = ask(server.port, post(CHAT, {"messages": HI}))
        assert answer.status == 400
        assert "base model" in answer.json["error"]["message"]
        assert ask(server.port, post("/v1/completions", {"prompt": "the"})).status == 200


def test_requests_that_take_too_long_are_cut_off(chat_lm) -> None:
    engine = FakeEngine(chat_lm)
    engine.token_s = 0.2
    with serving(engine, request_timeout_s=0.5) as server:
        answer = ask(
            server.port, post("/v1/completions", {"prompt": "the", "max_tokens": 50, "ignore_eos": True})
        )
        assert answer.status == 504
        assert not engine.phase


def test_nothing_private_is_logged(chat_lm, caplog) -> None:
    """Neither prompts, nor answers, nor keys, at any level; and a line is a line."""
    with caplog.at_level(logging.DEBUG), serving(FakeEngine(chat_lm), api_keys=("sk-private",)) as server:
        key = "Authorization: Bearer sk-private"
        tools = [{"type": "function", "function": {"name": "f", "description": "private words"}}]
        ask(
            server.port,
            post(CHAT, {"messages": [{"role": "user", "content": "private words"}], "tools": tools}, key),
        )
        ask(server.port, post("/v1/completions", {"prompt": "private words", "n": 99}, key))
        ask(server.port, head("GET", "/v1/%0aforged%20line%1b%5b31m", key))
        ask(server.port, head("GET", "/v1/models", "Authorization: Bearer sk-private-wrong"))
    assert "private" not in caplog.text
    mine = [r.getMessage() for r in caplog.records if r.name == "orrery.serve"]
    assert any("forged" in line for line in mine)
    assert not any("\n" in line or "\x1b" in line for line in mine)


def test_prompts_are_logged_if_asked_for(chat_lm, caplog) -> None:
    engine = FakeEngine(chat_lm, script=["an answer"])
    with caplog.at_level(logging.INFO), serving(engine, log_prompts=True) as server:
        ask(server.port, post("/v1/completions", {"prompt": "words\nof mine"}))
    (line,) = [r.getMessage() for r in caplog.records if "prompt" in r.getMessage()]
    assert "words\\nof mine" in line and "an answer" in line
