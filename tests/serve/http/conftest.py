from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from orrery.serve.engine.async_engine import AsyncEngine
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine
from orrery.serve.http.app import make_app
from orrery.serve.http.lifecycle import Server
from orrery.serve.http.settings import ServerSettings
from orrery.serve.lm import LM
from orrery.text import Tokenizer
from orrery.text.chat import CONTROL, ChatFormat


@contextmanager
def serving(engine: Any, tracer_provider: Any = None, shadow: Any = None, **settings: Any) -> Iterator[Any]:
    """A server on a free port, in a thread of its own: `.url`, `.port`, `.app`, `.server`, `.engine`."""
    set_up = ServerSettings(**{"port": 0, "drain_s": 2.0, **settings})
    app = make_app(engine, settings=set_up, name="tiny", tracer_provider=tracer_provider, shadow=shadow)
    server = Server(app, set_up)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield SimpleNamespace(
            url=server.url, port=int(server.url.rpartition(":")[2]), app=app, server=server, engine=engine
        )
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(true: Callable[[], Any], seconds: float = 10.0) -> float:
    """Wait for something; how long it took."""
    started = time.perf_counter()
    while not true():
        if time.perf_counter() - started > seconds:
            raise AssertionError("it did not come true in time")
        time.sleep(0.002)
    return time.perf_counter() - started


@pytest.fixture(scope="session")
def chat_lm(tokenizer: Tokenizer, make_model: Callable[..., Any]) -> LM:
    """A small model with a chat format, long enough for tools."""
    with_chat = tokenizer.add_tokens(
        [name for name in CONTROL if name not in tokenizer.special], special=True
    )
    model = make_model(with_chat.vocab_size, max_positions=2048)
    return LM(model=model, tokenizer=with_chat, chat=ChatFormat(with_chat))


@pytest.fixture(scope="session")
def base_lm(tokenizer: Tokenizer, make_model: Callable[..., Any]) -> LM:
    """The same without a chat format."""
    return LM(model=make_model(tokenizer.vocab_size, max_positions=2048), tokenizer=tokenizer)


@pytest.fixture
def engine(chat_lm: LM) -> AsyncEngine:
    """The real one."""
    return AsyncEngine(Engine(chat_lm, EngineConfig(max_sequences=16)))
