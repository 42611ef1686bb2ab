"""The engine for many callers at once: one thread steps it, and every caller awaits its own updates.

    engine = AsyncEngine(Engine(lm))
    engine.start()
    async for update in engine.stream(request): ...        # leaving the loop cancels the request
    done = await engine.complete(request)
    engine.stop()

A request that is left gives its blocks back between two steps: as soon as the step under way ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest
from orrery.serve.engine.engine import Engine, QueueFull
from orrery.serve.engine.sequence import Job, Update
from orrery.serve.engine.statistics import EngineStats

T = TypeVar("T")


class EngineStopped(OrreryError):
    """The engine takes no requests any more, or was stopped under this one."""


@dataclass(frozen=True)
class Listener:
    """Who waits for a request's updates, in which event loop."""

    loop: asyncio.AbstractEventLoop
    inbox: asyncio.Queue[Update | Exception]

    def tell(self, news: Update | Exception) -> bool:
        """Hand it over; False: the loop has closed and nobody listens."""
        try:
            self.loop.call_soon_threadsafe(self.inbox.put_nowait, news)
        except RuntimeError:
            return False
        return True


class AsyncEngine:
    """Owns `engine` from `start` to `stop`: nobody else may step it, add to it or cancel in it meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._news = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._listeners: dict[int, Listener] = {}
        self._entering = 0
        self._thread: threading.Thread | None = None
        self._stopping = self._ended = False

    def start(self) -> None:
        """Begin to step; a second call does nothing."""
        if self._thread is None:
            self._stopping = self._ended = False
            self._thread = threading.Thread(target=self._run, name="orrery-engine", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the step under way, cancel what is left (its callers get `EngineStopped`) and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._news:
            self._stopping = True
            self._news.notify()
        thread.join()

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Update]:
        """The request's updates as they come; the last one has the completion. Closing the iterator cancels the request.

        Raises:
            OrreryError: the request is refused, or failed. QueueFull: too many wait. EngineStopped: the engine is not running.
        """
        listener = Listener(asyncio.get_running_loop(), asyncio.Queue())
        if self._thread is None:
            raise EngineStopped("the engine is not running; start it, or try again later")
        self._reserve()
        try:
            job = await asyncio.to_thread(self.engine.prepare, request)
        except BaseException:
            self._unreserve()
            raise
        self._do(lambda: self._enter(job, listener))
        try:
            while True:
                news = await listener.inbox.get()
                if isinstance(news, Exception):
                    raise news
                if news.error is not None:
                    raise news.error
                yield news
                if news.completion is not None:
                    return
        finally:
            self._do(lambda: self._leave(job.ticket))

    async def complete(self, request: GenerateRequest) -> Completion:
        """All of it at once; cancelling the task cancels the request.

        Raises:
            OrreryError: as `stream`.
        """
        async with aclosing(self.stream(request)) as updates:  # type: ignore[bad-argument-type]
            async for update in updates:
                if update.completion is not None:
                    return update.completion
        raise AssertionError("a stream ends with a completion")

    def stats(self) -> EngineStats:
        """What runs and waits, as of the last step."""
        return self.engine.stats()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    async def aside(self, work: Callable[[], T]) -> T:
        """The result of `work` (embeddings, a steering vector), done in the engine's thread between two steps.

        Raises:
            EngineStopped: the engine is not running.
        """
        if self._thread is None:
            raise EngineStopped("the engine is not running; start it, or try again later")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result, fault = work(), None
            except Exception as error:
                result, fault = None, error

            def tell() -> None:
                if not done.done():
                    done.set_result(result) if fault is None else done.set_exception(fault)  # type: ignore[arg-type]

            loop.call_soon_threadsafe(tell)

        self._do(run)
        return await done

    # --- between threads

    def _reserve(self) -> None:
        """Count a request as waiting from here on, so that a queue that is full says so at once and not after a step."""
        most = self.engine.config.max_queue
        with self._news:
            waiting = self.engine.waiting + self._entering
            if waiting >= most:
                raise QueueFull(f"{waiting} requests wait already; try again later, or raise max_queue")
            self._entering += 1

    def _unreserve(self) -> None:
        with self._news:
            self._entering -= 1

    def _do(self, command: Callable[[], None]) -> None:
        """Have the engine's thread run this between two steps; once it has ended, there is nothing to wait for."""
        with self._news:
            if not self._ended:
                self._commands.append(command)
                self._news.notify()
                return
        command()

    # --- in the engine's thread

    def _run(self) -> None:
        while True:
            with self._news:
                while not (self._commands or self._stopping or self.engine.has_work):
                    self._news.wait()
                commands, self._commands = self._commands, deque()
            for command in commands:
                command()
            if self._stopping:
                break
            if self.engine.has_work:
                self._step()
        self._end()

    def _step(self) -> None:
        try:
            updates = self.engine.step()
        except Exception as error:  # a fault of the engine itself: nobody may be left waiting
            for ticket in list(self._listeners):
                self.engine.cancel(ticket)
                self._tell(ticket, error)
            return
        for update in updates:
            self._tell(update.ticket, update)

    def _tell(self, ticket: int, news: Update | Exception) -> None:
        listener = self._listeners.get(ticket)
        if listener is None:
            return
        over = isinstance(news, Exception) or news.last
        if over:
            del self._listeners[ticket]
        if not listener.tell(news) and not over:
            self._leave(ticket)

    def _enter(self, job: Job, listener: Listener) -> None:
        self._unreserve()
        if self._stopping:
            listener.tell(EngineStopped("the engine was stopped before the request began; try again later"))
            return
        self._listeners[job.ticket] = listener
        try:
            self.engine.enqueue(job)
        except OrreryError as error:
            self._tell(job.ticket, error)

    def _leave(self, ticket: int) -> None:
        self._listeners.pop(ticket, None)
        self.engine.cancel(ticket)

    def _end(self) -> None:
        stopped = EngineStopped("the engine was stopped while the request ran; try again later")
        for ticket in list(self._listeners):
            self.engine.cancel(ticket)
            self._tell(ticket, stopped)
        with self._news:
            self._ended = True
            commands, self._commands = self._commands, deque()
        for command in commands:
            command()
