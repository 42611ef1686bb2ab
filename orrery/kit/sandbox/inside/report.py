"""How a run ends: one JSON object on a pipe of its own, then the end of the process, whatever else is still going on."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from orrery.kit.sandbox.inside.codec import Broken, write_all

_LIMITS = {
    errno.EAGAIN: "processes",
    errno.ENOSPC: "disk or files",
    errno.EDQUOT: "disk",
    errno.EFBIG: "disk",
    errno.EMFILE: "open files",
    errno.ENFILE: "open files",
}
_MOST_DETAIL = 2000


class Reporter:
    """Writes the one report of this process. Forked copies have no say."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._process = os.getpid()
        self._reserve = bytearray(
            1 << 20
        )  # given back when memory has run out, so that this can still be said
        self._streams = (sys.stdout, sys.stderr)

    def ready(self) -> None:
        """Say that all rights but system calls are given up."""
        write_all(self._pipe, b"ready %d\n" % self._process)

    def attempt(self, work: Callable[[], Any]) -> None:
        """Do `work` and report its value, which must be plain JSON, or how it failed; does not return."""
        try:
            value = work()
            self.end({"status": "ok", "value": value})
        except MemoryError:
            self._reserve = bytearray()
            self.end({"status": "memory", "detail": "MemoryError"})
        except Broken as error:
            self.end({"status": "gone", "detail": str(error)})
        except OSError as error:
            if error.errno == errno.ENOMEM:
                self.end({"status": "memory", "detail": str(error)[:_MOST_DETAIL]})
            limit = _LIMITS.get(error.errno or 0)
            self._failed("limit" if limit else "error", error, f" (the limit of {limit})" if limit else "")
        except RuntimeError as error:
            threads = "can't start new thread" in str(error)
            self._failed("limit" if threads else "error", error)
        except BaseException as error:
            self._failed("error", error)

    def _failed(self, status: str, error: BaseException, more: str = "") -> None:
        sys.stderr = self._streams[1]
        try:
            shown, line = _of_the_code(error.__traceback__)
            text = f"{type(error).__name__}: {error}".removesuffix(": ")[:_MOST_DETAIL] + line
            sys.__excepthook__(type(error), error.with_traceback(shown), shown)
        except BaseException:
            text = "an exception that cannot be shown"
        self.end({"status": status, "detail": text + more})

    def end(self, message: dict[str, Any]) -> None:
        """Flush what was printed, report, and end this process without asking its threads or exit functions."""
        for stream in self._streams:
            try:
                stream.flush()
            except BaseException:
                continue
        if os.getpid() == self._process:
            try:
                data = json.dumps(message).encode()
            except (TypeError, ValueError, RecursionError) as error:
                note = f"the value has no form in JSON: {type(error).__name__}: {error}"[:_MOST_DETAIL]
                data = json.dumps({"status": "error", "detail": note}).encode()
            write_all(self._pipe, data)
        os._exit(0)


def _of_the_code(trace: TracebackType | None) -> tuple[TracebackType | None, str]:
    """The traceback without our own frames, and the last line of the code or tests in it."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith("<orrery"):
        trace = trace.tb_next
    line, here = "", trace
    while here is not None:
        name = here.tb_frame.f_code.co_filename
        if name in ("<__main__>", "<solution>", "<tests>", "<setup>"):
            line = f" (line {here.tb_lineno} of {name})"
        here = here.tb_next
    return trace, line
