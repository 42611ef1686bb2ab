"""A model behind an endpoint as somebody who replies."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from orrery.kit.chat import ReplySettings
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.remote import RemoteChat
from tests.serve.http.conftest import chat_lm, engine, serving  # noqa: F401

ASK = [{"role": "user", "content": "hello"}]


def said(text: str) -> httpx2.Response:
    return httpx2.Response(200, json={"choices": [{"message": {"role": "assistant", "content": text}}]})


def fault(status: int, message: str = "no") -> httpx2.Response:
    return httpx2.Response(status, json={"error": {"message": message}})


def remote(answer: Callable[[httpx2.Request], httpx2.Response], **settings: Any) -> RemoteChat:
    settings = {"model": "m", "pause_s": 0.001, **settings}
    return RemoteChat("http://there", transport=httpx2.MockTransport(answer), **settings)


def test_requests_and_replies_keep_their_order() -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert str(request.url) == "http://there/v1/chat/completions"
        assert request.headers["authorization"] == "Bearer k"
        seen.append(json.loads(request.content))
        return said(f"to {seen[-1]['messages'][0]['content']}")

    conversations = [[{"role": "user", "content": str(i)}] for i in range(20)]
    replies = remote(answer, api_key="k", concurrency=3).reply(
        conversations, ReplySettings(max_tokens=5, seed=3)
    )
    assert [reply.text for reply in replies] == [f"to {i}" for i in range(20)]
    assert {(b["model"], b["max_tokens"], b["temperature"], b["seed"]) for b in seen} == {("m", 5, 0.0, 3)}


def test_what_may_pass_is_tried_again() -> None:
    answers = iter([fault(429), fault(503), said("at last")])
    assert remote(lambda request: next(answers)).reply([ASK])[0].text == "at last"
    calls = []
    (reply,) = remote(lambda request: calls.append(1) or fault(500, "broken"), tries=3).reply([ASK])
    assert len(calls) == 3 and reply.fault == "500: broken" and reply.text == ""


def test_what_is_refused_is_a_fault_of_one_reply() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return fault(400, "too long") if b"long" in request.content else said("ok")

    short, long = remote(answer).reply([ASK, [{"role": "user", "content": "long"}]])
    assert short.text == "ok" and long.fault == "400: too long"
    (odd,) = remote(lambda request: httpx2.Response(200, json={"choices": []})).reply([ASK])
    assert odd.fault == "an answer without a message"


def test_what_concerns_all_ends_the_run() -> None:
    with pytest.raises(OrreryError, match="answers 401: no; give its key"):
        remote(lambda request: fault(401)).reply([ASK, ASK])

    def nobody(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    with pytest.raises(OrreryError, match="nobody answers at http://there/v1"):
        remote(nobody, tries=2).reply([ASK])
    with pytest.raises(OrreryError, match="no grammar"):
        remote(lambda request: said("x")).reply([ASK], ReplySettings(grammar=Grammar(kind="json_object")))
    with pytest.raises(OrreryError, match="lists no model"):
        remote(lambda request: httpx2.Response(200, json={"data": []}), model=None)


def test_a_server_of_our_own_replies(engine, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(engine) as server:
        there = RemoteChat(server.url)
        assert there.name == "tiny"
        first, second = (there.reply([ASK, ASK], ReplySettings(max_tokens=4)) for _ in range(2))
    assert first == second and not first[0].fault
