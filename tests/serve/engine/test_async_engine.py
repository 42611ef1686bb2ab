"""Many callers at once: streams, cancellation by leaving, a full queue, faults, and the end of the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from orrery.kit.errors import OrreryError
from orrery.serve.engine.async_engine import AsyncEngine, EngineStopped
from orrery.serve.engine.config import EngineConfig
from orrery.serve.engine.engine import Engine, QueueFull
from orrery.serve.lm import LM

from .conftest import same


@pytest.fixture
def engine(lm: LM) -> Iterator[AsyncEngine]:
    made = AsyncEngine(Engine(lm, EngineConfig(block_size=4, token_budget=16, max_queue=3, max_sequences=4)))
    made.start()
    made.start()
    yield made
    made.stop()
    made.stop()
    made.engine.check()
    assert not any(thread.name == "orrery-engine" for thread in threading.enumerate())


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


def test_many_at_once_equal_each_alone(lm: LM, engine: AsyncEngine, requests: Any) -> None:
    async def main() -> list[Any]:
        return list(await asyncio.gather(*(engine.complete(request) for request in requests()[:3])))

    for a, b in zip(asyncio.run(main()), lm.generate(requests()[:3]), strict=True):
        same(a, b)
    assert engine.stats().completed == 3


def test_a_stream_is_its_completion_in_pieces(engine: AsyncEngine, requests: Any) -> None:
    async def main() -> list[Any]:
        return [update async for update in engine.stream(requests(n=2)[1])]

    updates = asyncio.run(main())
    done = updates[-1].completion
    assert done is not None and all(update.completion is None for update in updates[:-1])
    for i, one in enumerate((done, *done.others)):
        assert "".join(u.text for u in updates if u.choice == i and u.completion is None) == one.text


def test_leaving_a_stream_gives_the_blocks_back(engine: AsyncEngine, requests: Any) -> None:
    long = replace(requests()[1], max_tokens=40)

    async def main() -> None:
        async with aclosing(engine.stream(long)) as updates:  # type: ignore[bad-argument-type]
            async for _ in updates:
                break
        await until(lambda: engine.stats().requests == 0)
        assert engine.stats().blocks_used == 0 and engine.stats().cancelled == 1
        task = asyncio.create_task(engine.complete(long))
        await until(lambda: engine.stats().running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: engine.stats().requests == 0)
        assert engine.stats().blocks_used == 0

    asyncio.run(main())


def test_what_is_refused_is_said_at_once_and_a_full_queue_too(engine: AsyncEngine, requests: Any) -> None:
    asked = requests()[0]

    async def main() -> None:
        with pytest.raises(OrreryError, match="prompt is empty"):
            await engine.complete(replace(asked, ids=()))
        gate = threading.Event()
        engine._do(gate.wait)  # the engine's thread is busy
        tasks = [asyncio.create_task(engine.complete(asked)) for _ in range(6)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        assert all(isinstance(t.exception(), QueueFull) for t in tasks if t.done())
        gate.set()
        done = [await task for task in tasks if not (task.done() and task.exception())]
        assert len(done) == 3 and len({c.ids for c in done}) == 1

    asyncio.run(main())


def test_a_fault_of_one_request_reaches_its_caller_alone(engine: AsyncEngine, lm: LM, requests: Any, monkeypatch: Any) -> None:  # fmt: skip
    good, bad = requests()[0], requests()[1]
    prepare = engine.engine.prepare

    def broken(request: Any) -> Any:
        job = prepare(request)
        if request is bad:
            job.sequences[0].chooser.choose = _fault
        return job

    monkeypatch.setattr(engine.engine, "prepare", broken)

    async def main() -> list[Any]:
        return await asyncio.gather(engine.complete(good), engine.complete(bad), return_exceptions=True)

    done, fault = asyncio.run(main())
    same(done, lm.generate([good])[0])
    assert isinstance(fault, OrreryError) and "a fault of its own" in str(fault)


def _fault(*_: Any) -> None:
    raise OrreryError("a fault of its own")


def test_a_fault_of_the_engine_leaves_nobody_waiting(
    engine: AsyncEngine, requests: Any, monkeypatch: Any
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(engine.engine.turns, "next", _fault)
            with pytest.raises(OrreryError, match="a fault of its own"):
                await engine.complete(requests()[0])
        assert (await engine.complete(requests()[0])).finish_reason == "length"

    asyncio.run(main())


def test_stopping_ends_every_stream(lm: LM, requests: Any) -> None:
    engine = AsyncEngine(Engine(lm, EngineConfig(block_size=4)))
    long = replace(requests()[1], max_tokens=40)

    async def main() -> None:
        with pytest.raises(EngineStopped, match="not running"):
            await engine.complete(long)
        engine.start()
        task = asyncio.create_task(engine.complete(long))
        await until(lambda: engine.stats().running == 1)
        await asyncio.to_thread(engine.stop)
        with pytest.raises(EngineStopped):
            await task
        assert engine.stats().blocks_used == 0
        engine.start()
        assert (await engine.complete(requests()[0])).finish_reason == "length"
        engine.stop()

    asyncio.run(main())
