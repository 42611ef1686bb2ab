"""The application asked without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from orrery.serve.cluster.bridge import Head, HttpRequest, answer
from orrery.serve.cluster.router import matched
from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.http.app import make_app
from orrery.serve.http.settings import ServerSettings
from orrery.serve.lm import LM


@pytest.fixture(scope="module")
def base(tokenizer: Any, make_model: Callable[..., Any]) -> LM:
    return LM(model=make_model(tokenizer.vocab_size, max_positions=2048), tokenizer=tokenizer)


def post(body: Any, path: str = "/v1/completions", **headers: str) -> HttpRequest:
    given = {"host": "localhost", "content-type": "application/json", **headers}
    raw = tuple((k.encode(), v.encode()) for k, v in given.items())
    return HttpRequest("POST", path, b"", raw, body if isinstance(body, bytes) else json.dumps(body).encode())


async def whole(app: Any, request: HttpRequest) -> tuple[Head, bytes]:
    head, *chunks = [part async for part in answer(app, request)]
    assert isinstance(head, Head)
    return head, b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))


def test_answers_and_streams(base: LM) -> None:
    async def go() -> None:
        engine = AsyncEngine(Engine(base, EngineConfig(max_sequences=4)))
        app = make_app(engine, settings=ServerSettings(), name="tiny")
        engine.start()
        ask = {"prompt": "the cat", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
        expected = base.generate("the cat", max_tokens=8, temperature=0, ignore_eos=True).text
        head, body = await whole(app, post(ask))
        assert head.status == 200 and json.loads(body)["choices"][0]["text"] == expected
        head, body = await whole(app, post({**ask, "stream": True}))
        events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        assert dict(head.headers)[b"content-type"].startswith(b"text/event-stream") and events[-1] == "[DONE]"
        assert "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) == expected
        head, _ = await whole(app, post(b"{"))
        assert head.status == 400
        engine.stop()

    asyncio.run(go())


def test_closing_it_cancels_the_request(base: LM) -> None:
    async def go() -> None:
        engine = AsyncEngine(Engine(base, EngineConfig(max_sequences=4)))
        app = make_app(engine, settings=ServerSettings(), name="tiny")
        engine.start()
        asked = post({"prompt": "the cat", "max_tokens": 1500, "ignore_eos": True, "stream": True})
        async with aclosing(answer(app, asked)) as parts:  # type: ignore[bad-argument-type]
            assert isinstance(await anext(parts), Head) and await anext(parts)
            assert engine.stats().requests == 1
        for _ in range(200):
            if not engine.stats().requests:
                break
            await asyncio.sleep(0.01)
        stats = engine.stats()
        assert stats.requests == stats.blocks_used == 0 and stats.cancelled == 1
        engine.stop()

    asyncio.run(go())


def test_what_an_application_raises_is_raised() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("oh")

    async def go() -> None:
        with pytest.raises(KeyError):
            await whole(broken, post({}))

    asyncio.run(go())


def test_routing_reads_what_the_model_will_read() -> None:
    start = "You are a helpful assistant. " * 10
    talk = [{"role": "system", "content": start}, {"role": "user", "content": "Hello " * 30}]
    more = [*talk, {"role": "assistant", "content": "Hi " * 30}, {"role": "user", "content": "And?"}]
    first, second = (post({"messages": m}, "/v1/chat/completions").digests() for m in (talk, more))
    assert matched(second, first) >= len(first) - 1
    assert (
        matched(post({"prompt": start + "a"}).digests(), post({"prompt": start + "b"}).digests())
        == len(start) // 64
    )
    assert (
        matched(post({"input": list(range(40))}).digests(), post({"prompt": list(range(40))}).digests()) == 2
    )
    assert post({"prompt": [[1] * 20, [2]]}).digests() == post({"prompt": [1] * 20}).digests()


def test_callers_and_models_have_prefixes_of_their_own() -> None:
    plain = post({"prompt": "a" * 640}).digests()
    assert not matched(post({"prompt": "a" * 640, "model": "b"}).digests(), plain)
    assert not matched(post({"prompt": "a" * 640}, authorization="Bearer x").digests(), plain)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[1]", b'{"prompt": null}', b'{"prompt": [[]]}', b'{"prompt": [1e99, {}]}', b'{"prompt": [9e18, 99999999999999999999]}', b'{"messages": 3}', b'{"input": {"a": []}}']
)  # fmt: skip
def test_any_body_has_a_place(body: bytes) -> None:
    assert post(body).digests()
