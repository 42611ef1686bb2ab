"""Streams: whole characters, one end, comments while nothing comes, errors inside."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orrery.kit.errors import OrreryError
from orrery.serve.http.sse import EventStream, encoded
from tests.serve.http.conftest import serving
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import connect, post


def events_of(data: bytes) -> list[str]:
    """By the standard: events end with an empty line, lines end with CR, LF or both; comments are left out."""
    text = data.decode()  # raises where a character was split
    blocks = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    return [
        "\n".join(line.removeprefix("data: ") for line in block.split("\n") if line.startswith("data:"))
        for block in blocks
        if any(line.startswith("data:") for line in block.split("\n"))
    ]


@given(st.text(), st.none() | st.sampled_from(["response.created"]))
def test_any_text_comes_back_from_one_event(text: str, name: str | None) -> None:
    text = text.encode("utf-8", errors="replace").decode()
    (data,) = events_of(encoded((name, {"text": text})))
    assert json.loads(data) == {"text": text}


def run(events, *, keep_alive_s: float = 10.0, write_timeout_s: float = 10.0, receive=None, send=None):
    """What a stream sends, as [(type, body)]."""
    sent = []

    async def wait() -> None:
        await asyncio.Event().wait()

    async def keep(message) -> None:
        sent.append(message)

    async def main() -> None:
        stream = EventStream(events, keep_alive_s=keep_alive_s, write_timeout_s=write_timeout_s)
        await stream({}, receive or wait, send or keep)

    asyncio.run(main())
    return sent


def test_a_stream_ends_once() -> None:
    async def events():
        yield None, {"a": 1}
        yield None, {"a": 2}

    sent = run(events())
    assert sent[0]["status"] == 200
    assert [message["more_body"] for message in sent[1:]] == [True, True, False]
    assert b"".join(m["body"] for m in sent[1:]) == b'data: {"a":1}\n\ndata: {"a":2}\n\ndata: [DONE]\n\n'


def test_comments_while_nothing_comes(monkeypatch) -> None:
    monkeypatch.setattr("orrery.serve.http.sse.GRACE_S", 0.01)

    async def events():
        await asyncio.sleep(0.15)
        yield None, {"a": 1}

    body = b"".join(m["body"] for m in run(events(), keep_alive_s=0.03)[1:])
    assert body.startswith(b": waiting\n\n: waiting\n\n")
    assert events_of(body) == ['{"a":1}', "[DONE]"]


def test_a_refusal_before_the_first_event_has_its_own_status() -> None:
    async def events():
        raise OrreryError("not this")
        yield

    with pytest.raises(OrreryError, match="not this"):
        run(events())


def test_a_fault_later_is_an_event() -> None:
    async def events():
        yield None, {"a": 1}
        raise OrreryError("no more")

    body = b"".join(m["body"] for m in run(events())[1:])
    _, error, done = events_of(body)
    assert json.loads(error)["error"]["message"] == "no more"
    assert done == "[DONE]"


def test_who_does_not_read_is_let_go() -> None:
    closed = []

    async def events():
        try:
            while True:
                yield None, {"a": 1}
        finally:
            closed.append(True)

    async def never(message) -> None:
        await asyncio.Event().wait()

    started = time.perf_counter()
    run(events(), write_timeout_s=0.1, send=never)
    assert closed and time.perf_counter() - started < 5


def test_no_character_is_split_on_the_wire(chat_lm) -> None:
    """The smallest reads, a script of characters of every length; ids carry parts of characters, events never do."""
    text = 'aé東🎉👩‍👩‍👧 \u2028\u2029\x85 grüße\\"\n'
    with serving(FakeEngine(chat_lm, script=[text])) as server, connect(server.port) as sock:
        body = {"messages": [{"role": "user", "content": "x"}], "stream": True, "logprobs": True}
        sock.sendall(post("/v1/chat/completions", body, "Connection: close"))
        data = b""
        while piece := sock.recv(7):
            data += piece
    head, _, chunked = data.partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    payload = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        part = rest[: int(size, 16)]
        part.decode()  # each piece on the wire is whole characters
        payload += part
        chunked = rest[int(size, 16) + 2 :]
    *chunks, done = events_of(payload)
    assert done == "[DONE]"
    deltas = [json.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(deltas) == text
    assert "�" not in text


def test_options_junk_is_refused(chat_lm) -> None:
    from tests.serve.http.raw import ask

    with serving(FakeEngine(chat_lm)) as server:
        for junk in ("yes", [], {"include_usage": "yes"}, {"include": True}, 1):
            body = {"prompt": "the", "stream": True, "stream_options": junk}
            assert ask(server.port, post("/v1/completions", body)).status == 400
