"""One run as the host sees it: its pipes, its clock, its memory, and what it says at the end."""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from orrery.kit.sandbox.capture import Capture
from orrery.kit.sandbox.cell import Backend, memory_of
from orrery.kit.sandbox.cgroup import open_group
from orrery.kit.sandbox.inside.confine import watch as watch_process
from orrery.kit.sandbox.inside.supervisor import descendants
from orrery.kit.sandbox.outcome import Limits, Outcome, SandboxUnavailable, Status

START_SECONDS = 60.0
"""To build a jail and start Python in it, on a machine that has much else to do."""
PACE = 0.05
"""Seconds between two looks at a jail's memory."""
MOST_ANSWER = 4 << 20
_BLOCK = 1 << 16
_TIME_UP = 24
"""SIGXCPU."""
_KILLED = 9


class Jail:
    """A cell, what is sent to it, and what comes out of it."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        job: dict[str, Any],
        *,
        files: Mapping[str, bytes],
        links: tuple[int, ...] = (),
        groups: tuple[Path, ...] = (),
    ) -> None:
        """Start it. The job is sent once it is ready: by then all rights but system calls are given up."""
        self.ready_at: float | None = None
        self.ended = False
        self._limits = limits
        self._job = job
        self._stopped: tuple[Status, str] | None = None
        self._group = open_group(groups, limits)
        self._answer = bytearray()
        self._captured = {"stdout": Capture(), "stderr": Capture()}
        self._ended_at = 0.0
        job_reader, self._job_pipe = os.pipe()
        self._answer_pipe, answer_writer = os.pipe()
        try:
            self._cell = backend.open(limits, files=files, job=job_reader, answer=answer_writer, links=links)
        except BaseException:
            os.close(self._job_pipe)
            os.close(self._answer_pipe)
            if self._group is not None:
                self._group.remove()
            raise
        finally:
            os.close(job_reader)
            os.close(answer_writer)
        process = self._cell.process
        assert process.stdout is not None and process.stderr is not None
        self._readers = {
            process.stdout.fileno(): self._captured["stdout"],
            process.stderr.fileno(): self._captured["stderr"],
        }
        self._death = watch_process(process.pid)

    def register(self, watch: selectors.BaseSelector) -> None:
        """Have `attend` call us when there is something to do."""
        self._watch = watch
        watch.register(self._death, selectors.EVENT_READ, self._on_death)
        watch.register(self._answer_pipe, selectors.EVENT_READ, self._on_answer)
        for pipe in self._readers:
            watch.register(pipe, selectors.EVENT_READ, lambda pipe=pipe: self._on_text(pipe))

    def stop(self, status: Status, detail: str) -> None:
        """Say why this run must end, and end it; the first reason counts."""
        if self._stopped is None:
            self._stopped = (status, detail)
        self.ended = True

    def weigh(self) -> None:
        """Look at the memory of all its processes: whether the kernel had to act, or by adding up where it does not."""
        if self.ready_at is None or self.ended:
            return
        most = self._limits.memory
        if self._group is not None:
            over = self._group.out_of_memory()
        else:
            over = (
                memory_of(self._cell.process.pid, started_with=self._started_with) > most + self._limits.disk
            )
        if over:
            self.stop("memory", f"all processes together held more than {most >> 20} MiB")

    def close(self) -> None:
        """End what still runs, take what is left in the pipes, give everything back."""
        self._cell.end()
        self._ended_at = time.monotonic()
        self._out_of_memory = self._group is not None and self._group.out_of_memory()
        for pipe in self._readers:
            os.set_blocking(pipe, False)
            with suppress(BlockingIOError):
                while self._captured_size() <= self._limits.output and self._on_text(pipe):
                    pass
        os.set_blocking(self._answer_pipe, False)
        with suppress(BlockingIOError):
            while self._on_answer():
                pass
        for stream in (self._cell.process.stdout, self._cell.process.stderr):
            assert stream is not None
            stream.close()
        for pipe in (self._death, self._answer_pipe, self._job_pipe):
            if pipe >= 0:
                os.close(pipe)
        if self._group is not None:
            self._group.remove()

    def outcome(self) -> Outcome:
        """What came of it.

        Raises:
            SandboxUnavailable: the jail could not be built.
        """
        code = self._cell.process.returncode
        stderr = self._captured["stderr"].text
        if self.ready_at is None:
            why = " ".join(stderr.split()[-40:]) or f"it ended with code {code}"
            raise SandboxUnavailable(f"the jail did not start: {why}")
        status, value, detail = self._verdict(code)
        return Outcome(
            status=status,
            value=value,
            stdout=self._captured["stdout"].text,
            stderr=stderr,
            seconds=self._ended_at - self.ready_at,
            detail=detail,
        )

    @property
    def died_early(self) -> bool:
        """Whether the jail ended by itself before its program was ready: it could not be built."""
        return self.ready_at is None and self._stopped is None and self.ended

    @property
    def gone(self) -> bool:
        """Whether it ended because the jail at the other end of its links did."""
        return self._said().get("status") == "gone"

    def _verdict(self, code: int) -> tuple[Status, Any, str]:
        if self._stopped is not None:
            return self._stopped[0], None, self._stopped[1]
        if self._out_of_memory:  # be it of a child alone: what the rest then says rests on something missing
            return "memory", None, f"the kernel ended a process at {self._limits.memory >> 20} MiB"
        said = self._said()
        if said.get("status") in get_args(Status):
            return said["status"], said.get("value"), str(said.get("detail", ""))
        if code == 128 + _TIME_UP:
            return "timeout", None, f"used {self._limits.cpu_seconds:g} s of processor time"
        if code > 128:
            return "crash", None, f"ended by signal {code - 128}"
        return "crash", None, f"ended with code {code} before it was done"

    def _said(self) -> dict[str, Any]:
        """The report, when it is one."""
        try:
            said = json.loads(self._answer.decode())
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _captured_size(self) -> int:
        return max(capture.total for capture in self._captured.values())

    def _on_death(self) -> None:
        self.ended = True

    def _on_text(self, pipe: int) -> bool:
        data = os.read(pipe, _BLOCK)
        if not data:
            self._forget(pipe)
            return False
        self._readers[pipe].feed(data)
        if self._readers[pipe].total > self._limits.output:
            self.stop("output", f"printed more than {self._limits.output:,} bytes")
        return True

    def _on_answer(self) -> bool:
        data = os.read(self._answer_pipe, _BLOCK)
        if not data:
            self._forget(self._answer_pipe)
            return False
        self._answer += data
        if len(self._answer) > MOST_ANSWER:
            self._answer.clear()
            self.stop("output", f"the value is longer than {MOST_ANSWER:,} bytes")
            return False
        if self.ready_at is None and b"\n" in self._answer:
            self._begin()
        return True

    def _begin(self) -> None:
        """It is ready: put it into its group, and send it its job."""
        line, _, rest = bytes(self._answer).partition(b"\n")
        self._answer = bytearray(rest)
        job = self._job | self._cell.settle(int(line.removeprefix(b"ready ")))
        if self._group is not None:
            self._group.add(descendants(self._cell.process.pid))
        self._unsent = memoryview(json.dumps(job).encode())
        os.set_blocking(self._job_pipe, False)
        self._watch.register(self._job_pipe, selectors.EVENT_WRITE, self._on_room)
        self._started_with = memory_of(self._cell.process.pid)
        self.ready_at = time.monotonic()

    def _on_room(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            self._unsent = self._unsent[os.write(self._job_pipe, self._unsent[:_BLOCK]) :]
            if self._unsent:
                return
        self._forget(self._job_pipe)
        os.close(self._job_pipe)
        self._job_pipe = -1

    def _forget(self, pipe: int) -> None:
        with suppress(KeyError):
            self._watch.unregister(pipe)


def attend(jails: Sequence[Jail], seconds: float) -> None:
    """Serve the pipes of `jails` until the first of them has ended, or the time is up; then end them all.

    The clock starts when every jail is ready. Nothing here waits for a pipe to end: a process that detached itself may hold
    it open, and is ended with the rest.
    """
    begun = time.monotonic()
    watch = selectors.DefaultSelector()
    try:
        for jail in jails:
            jail.register(watch)
        while not jails[0].ended:
            started = [jail.ready_at for jail in jails if jail.ready_at is not None]
            running = len(started) == len(jails)
            left = (
                max(started) + seconds - time.monotonic()
                if running
                else begun + START_SECONDS - time.monotonic()
            )
            if left <= 0:
                for jail in jails:
                    jail.stop("timeout", f"took longer than {seconds:g} s")
                break
            for key, _ in watch.select(min(left, PACE)):
                key.data()
            for jail in jails:
                jail.weigh()
    finally:
        for jail in jails:
            jail.close()
        watch.close()
