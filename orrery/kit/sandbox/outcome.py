"""What a run in the sandbox may use, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from orrery.kit.config import config
from orrery.kit.errors import OrreryError

MIB = 1 << 20
Status = Literal["ok", "error", "timeout", "memory", "output", "crash", "limit"]


class SandboxUnavailable(OrreryError):
    """No sandbox can be built here, so nothing is run. The message says why and how to mend it."""


@config
class Limits:
    """What one run may use.

    Attributes:
        seconds: of the clock, from the moment the code starts.
        cpu_seconds: of one process's time on processors.
        memory: bytes; of all processes together, and of each one's address space.
        processes: processes and threads.
        disk: bytes of scratch.
        files: files and folders on scratch.
        output: bytes of standard output and error each; beyond it the run ends. Kept are the first 64 KiB and the last 16.
    """

    seconds: float = 5.0
    cpu_seconds: float = 5.0
    memory: int = 512 * MIB
    processes: int = 32
    disk: int = 64 * MIB
    files: int = 4096
    output: int = MIB


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came back from a run.

    Attributes:
        status: "ok" when it came to its end; else why not. Generated code can lie about its own `value`, never about a check
            made by the host or by `Sandbox.run_tests`.
        value: what the called function returned, as plain JSON values (tuples are lists); None unless "ok".
        seconds: of the clock, without the start of the jail.
        detail: the exception or the limit, in one line.
    """

    status: Status
    value: Any = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    detail: str = ""
