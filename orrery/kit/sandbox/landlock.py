"""The second choice: Landlock and a system call filter, where bubblewrap cannot be had. The kernel alone is needed.

The code shares the host's processes and files, so more is forbidden: it can write nowhere, signal or ask about no process but
itself, and read nothing but Python, the system's libraries and the files that came with it. What remains is stated: it can
learn whether a file exists and how long it is, by `stat`, which neither Landlock nor a filter can tell from Python's own. And
the jails of one plain user share a limit: the kernel counts that user's processes, so one that forks leaves fewer to others.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.kit.sandbox import policy
from orrery.kit.sandbox.bubblewrap import SYSTEM
from orrery.kit.sandbox.cell import is_root, open_to_all, resources, user_of_its_own
from orrery.kit.sandbox.inside.confine import landlock_version
from orrery.kit.sandbox.interpreter import Interpreter
from orrery.kit.sandbox.outcome import Limits, SandboxUnavailable

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random")


class LandlockCell:
    """A supervisor of ours and the process it watches. Closing the supervisor's standard input ends both."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def settle(self, number: int) -> dict[str, Any]:
        """The filter, which knows the only process that the code may signal; its files are laid out already."""
        return {"filter": policy.sealed(alone_with=number).hex(), "files": {}}

    def end(self) -> None:
        """Let the supervisor stop and kill all descendants, and remove their folder."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Landlock:
    """Makes jails out of kernel calls alone."""

    name = "landlock"

    def __init__(self, interpreter: Interpreter) -> None:
        """Raises:
        SandboxUnavailable: the kernel has no Landlock, or a machine that we have no filter for.
        """
        if not policy.here():
            raise SandboxUnavailable(
                "there are system call filters for Linux on x86_64 and aarch64 alone; run it there"
            )
        if landlock_version() == 0:
            raise SandboxUnavailable(
                "this kernel has no Landlock; use Linux 5.13 or newer with landlock among the modules of lsm= at boot"
            )
        self._interpreter = interpreter
        self._closed = is_root() and not open_to_all(interpreter)

    def open(
        self, limits: Limits, *, files: Mapping[str, bytes], job: int, answer: int, links: tuple[int, ...]
    ) -> LandlockCell:
        """Start a jail."""
        scratch = tempfile.mkdtemp(prefix="orrery-")
        Path(scratch).chmod(0o755)
        for name, data in files.items():
            place = Path(scratch, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        reading = [*self._interpreter.folders, *SYSTEM, scratch]
        plan: dict[str, Any] = {
            "job": job,
            "answer": answer,
            "scratch": scratch,
            "tmpfs": None,
            "resources": resources(limits, processes=limits.processes + (0 if is_root() else _own_tasks())),
            "user": user_of_its_own() if is_root() else None,
            "keep_search": self._closed,
            "landlock": {"readable": [str(path) for path in reading], "devices": list(_DEVICES)},
        }
        process = subprocess.Popen(
            self._interpreter.command(self._interpreter.executable, plan),
            env={"LD_LIBRARY_PATH": str(self._interpreter.prefix / "lib")},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(job, answer, *links),
            start_new_session=True,
        )
        return LandlockCell(process)


def _own_tasks() -> int:
    """How many processes and threads this user has: the kernel's limit counts them together with the jail's."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                total += len(os.listdir(folder / "task"))
        except OSError:
            continue  # it ended meanwhile
    return total
