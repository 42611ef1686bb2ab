"""A client that goes away in any phase of its request is noticed, and what it held is free again, within 200 ms."""

from __future__ import annotations

import random
import threading
import time

import pytest

from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from tests.serve.http.conftest import serving, until
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, connect, head, post

LIMIT_S = 0.2
TALK = ["the cat sat on the mat. " * 200]
LONG = {"prompt": "the cat sat on", "max_tokens": 500, "ignore_eos": True}
PHASES = {
    "while queued": ("queued", True, False),
    "in prefill": ("prefill", True, False),
    "in decode, streaming": ("decode", True, False),
    "between events": ("decode", True, True),
    "before headers": ("queued", False, False),
    "not streaming": ("decode", False, False),
}


@pytest.fixture(scope="module")
def server(chat_lm):
    with serving(FakeEngine(chat_lm, script=TALK)) as server:
        yield server


@pytest.mark.parametrize(("phase", "stream", "reads"), PHASES.values(), ids=PHASES.keys())
def test_blocks_are_free_again(server, phase: str, stream: bool, reads: bool) -> None:
    engine = server.engine
    engine.queue_s = 30 if phase == "queued" else 0
    engine.prefill_s = 30 if phase == "prefill" else 0
    engine.token_s = 0.05
    cancelled = engine.cancelled
    with connect(server.port) as sock:
        sock.sendall(post("/v1/completions", {**LONG, "stream": stream}))
        until(lambda: phase in engine.phase.values())
        if reads:
            seen = b""
            while seen.count(b"data:") < 3:
                seen += sock.recv(65536)
        assert engine.stats().blocks_used > 0
    took = until(lambda: engine.stats().blocks_used == 0)
    assert took < LIMIT_S
    until(lambda: server.app.state.gate.running == 0)
    assert engine.cancelled == cancelled + 1


@pytest.fixture(scope="module")
def real(chat_lm):
    config = EngineConfig(max_sequences=1, token_budget=32, prefix_cache=False)
    with serving(AsyncEngine(Engine(chat_lm, config)), max_tokens=4000) as server:
        yield server


@pytest.mark.parametrize(
    "where", ["queued", "prefill", "decode", "between events", "before headers", "not streaming"]
)
def test_the_real_engine_frees_its_blocks(real, where: str) -> None:
    """One sequence at a time and 32 tokens a pass, so that every phase lasts; the ledger is right afterwards."""
    stats = real.engine.stats
    assert stats().blocks_used == 0
    long = {"prompt": [5] * (1500 if where == "prefill" else 20), "max_tokens": 500, "ignore_eos": True}
    others = []
    if where in ("queued", "before headers"):
        others.append(connect(real.port))
        others[0].sendall(post("/v1/completions", {**long, "stream": True}))
        until(lambda: stats().running == 1)
    with connect(real.port) as sock:
        sock.sendall(
            post("/v1/completions", {**long, "stream": where not in ("before headers", "not streaming")})
        )
        made = stats().generated_tokens
        match where:
            case "queued" | "before headers":
                until(lambda: stats().waiting == 1)
            case "prefill":
                until(lambda: stats().blocks_used > 8)
                assert stats().generated_tokens == made
            case _:
                until(lambda: stats().generated_tokens > made + 3)
        if where == "between events":
            assert b"data:" in sock.recv(65536)
    for other in others:
        other.close()
    took = until(lambda: stats().blocks_used == 0 and stats().requests == 0)
    assert took < LIMIT_S + 0.3  # the machine is shared; the limit itself is held by the benchmark
    until(lambda: real.app.state.gate.running == 0)
    real.engine.engine.check()


def test_a_client_that_waits_is_not_cut_off(server) -> None:
    engine = server.engine
    engine.queue_s, engine.prefill_s, engine.token_s = 0.1, 0.1, 0.0
    cancelled = engine.cancelled
    assert ask(server.port, post("/v1/completions", {**LONG, "max_tokens": 3})).status == 200
    assert engine.cancelled == cancelled


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_disconnects_leave_nothing(server, count: int) -> None:
    engine = server.engine
    engine.queue_s = engine.prefill_s = 0.005
    engine.token_s = 0.002

    def some(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(count // 8):
            stream = draw.random() < 0.7
            with connect(server.port) as sock:
                body = {**LONG, "max_tokens": draw.choice([1, 5, 400]), "stream": stream}
                data = post("/v1/completions", body)
                sock.sendall(data[: draw.choice([10, len(data) - 5, len(data), len(data), len(data)])])
                time.sleep(draw.random() * 0.03)

    threads = [threading.Thread(target=some, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = until(lambda: engine.stats().blocks_used == 0 and server.app.state.gate.running == 0)
    assert took < 5
    until(lambda: len(server.server.server_state.connections) == 0)
    assert ask(server.port, head("GET", "/health")).status == 200


def test_a_stream_that_nobody_reads_is_cut_off(chat_lm) -> None:
    """The client's window is full and stays so: after the write time-out its request is gone."""
    engine = FakeEngine(chat_lm, script=TALK)
    with serving(engine, write_timeout_s=0.3) as server:
        import socket

        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            sock.connect(("127.0.0.1", server.port))
            body = {**LONG, "max_tokens": 2000, "logprobs": 1, "n": 8, "stream": True, "orrery": {}}
            sock.sendall(post("/v1/completions", body))
            until(lambda: bool(engine.phase))
            until(lambda: not engine.phase, seconds=20)
            assert engine.cancelled == 1
