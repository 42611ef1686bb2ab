"""More requests than may be under way: the rest is told so at once, with a time to come back; the accepted ones are all answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from tests.serve.http.conftest import serving
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import post

QUEUE = 128


async def one(port: int, request: bytes, room: asyncio.Semaphore) -> tuple[int, str, float]:
    """(status, retry-after, seconds) of a request on a connection of its own."""
    async with room:
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            took = time.perf_counter() - started
            await reader.read()
        finally:
            writer.close()
        after = [line.split(": ")[1] for line in head.lower().split("\r\n") if line.startswith("retry-after")]
        return int(head.split()[1]), "".join(after), took


@pytest.mark.parametrize("count", [600, pytest.param(5000, marks=pytest.mark.slow)])
def test_answered_or_told_to_come_back(chat_lm, count: int) -> None:
    engine = FakeEngine(chat_lm, script=["a b"])
    engine.queue_s = 0.3
    request = post("/v1/completions", {"prompt": "the cat", "max_tokens": 2}, "Connection: close")

    async def all_of_them(port: int) -> list[tuple[int, str, float]]:
        room = asyncio.Semaphore(500)  # descriptors of this process
        return await asyncio.gather(*(one(port, request, room) for _ in range(count)))

    with serving(engine, max_requests=QUEUE) as server:
        answers = asyncio.run(all_of_them(server.port))
        assert server.app.state.gate.running == 0
        refused = server.app.state.gate.refused
    statuses = Counter(status for status, _, _ in answers)
    assert set(statuses) == {200, 429}
    assert statuses[429] == refused
    assert statuses[200] == len(engine.requests) >= QUEUE
    assert engine.cancelled == 0
    assert all(after.isdigit() and 1 <= int(after) <= 60 for status, after, _ in answers if status == 429)
    late = sorted(took for status, _, took in answers if status == 429)
    print(
        f"{count} at once on {QUEUE}: {dict(statuses)}, refused within {1000 * late[int(0.99 * len(late))]:.0f} ms (p99)"
    )


def test_health_answers_while_full(chat_lm) -> None:
    engine = FakeEngine(chat_lm, script=["a"])
    engine.queue_s = 1.0

    async def run(port: int) -> list[float]:
        room = asyncio.Semaphore(1000)
        busy = [
            asyncio.create_task(
                one(port, post("/v1/completions", {"prompt": "x"}, "Connection: close"), room)
            )
            for _ in range(QUEUE)
        ]
        await asyncio.sleep(0.3)
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        times = [(await one(port, request, room))[2] for _ in range(50)]
        await asyncio.gather(*busy)
        return times

    with serving(engine, max_requests=QUEUE) as server:
        times = sorted(asyncio.run(run(server.port)))
    assert times[len(times) // 2] < 0.1
