"""SIGTERM: nothing new is taken, what is under way ends, the process leaves with 0."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.serve.http.conftest import serving, until
from tests.serve.http.fake import FakeEngine
from tests.serve.http.raw import ask, head, post

TALK = ["the cat sat on the mat. " * 200]
LONG = {"prompt": "the cat", "max_tokens": 20, "ignore_eos": True}


def test_draining(chat_lm) -> None:
    engine = FakeEngine(chat_lm, script=TALK)
    engine.token_s = 0.05
    with serving(engine, drain_s=10) as server:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(server.port, post("/v1/completions", LONG))))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        until(lambda: server.app.state.gate.running == 20)
        assert ask(server.port, head("GET", "/ready")).status == 200
        server.server.handle_exit(signal.SIGTERM, None)
        assert ask(server.port, head("GET", "/ready")).status == 503
        assert ask(server.port, head("GET", "/health")).status == 200
        refused = ask(server.port, post("/v1/completions", LONG))
        assert refused.status == 503
        assert refused.json["error"]["code"] == "shutting_down"
        assert ask(server.port, head("GET", "/v1/models")).status == 503
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200] * 20
        assert all(answer.json["usage"]["completion_tokens"] == 20 for answer in answers)
        until(lambda: not engine.alive)
        assert not server.server.forced


def test_what_does_not_end_in_time_is_cancelled(chat_lm) -> None:
    engine = FakeEngine(chat_lm, script=TALK)
    engine.token_s = 1.0
    with serving(engine, drain_s=0.3) as server:
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(ask(server.port, post("/v1/completions", LONG)))
        )
        thread.start()
        until(lambda: bool(engine.phase))
        server.server.handle_exit(signal.SIGTERM, None)
        took = until(lambda: not engine.alive)
        assert took < 3
        assert not engine.phase and engine.cancelled == 1
        thread.join()
        assert [answer.status for answer in answers] == [503]


PROGRAM = """
import sys
TALK = ["the cat sat on the mat. " * 20]
from tests.serve.http.conftest import *
from tests.serve.http.fake import FakeEngine
from tests.serve.conftest import TEXTS, tiny_model
from orrery.text import TokenizerConfig, train_tokenizer
tokenizer = train_tokenizer(TEXTS, TokenizerConfig(vocab_size=320))
engine = FakeEngine(LM(model=tiny_model(tokenizer.vocab_size, max_positions=512), tokenizer=tokenizer), script=TALK)
engine.token_s = 0.05
settings = ServerSettings(port=0, drain_s=float(sys.argv[1]))
server = Server(make_app(engine, settings=settings, name="tiny"), settings)
import threading
def tell():
    until(lambda: server.started)
    print(server.url, flush=True)
threading.Thread(target=tell).start()
server.run()
sys.exit(1 if server.forced else 0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "code", "answered"), [(1, 0, True), (2, 1, False)])
def test_the_process(signals: int, code: int, answered: bool) -> None:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "10"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    statuses: list[int] = []

    def request() -> None:
        try:
            statuses.append(ask(port, post("/v1/completions", {**LONG, "max_tokens": 40})).status)
        except OSError:
            statuses.append(0)

    threads = [threading.Thread(target=request) for _ in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    started = time.perf_counter()
    assert process.wait(15) == code
    assert time.perf_counter() - started < 11
    for thread in threads:
        thread.join()
    assert (statuses == [200] * 10) == answered
    process.stdout.close()
