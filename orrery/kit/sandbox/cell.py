"""What both kinds of jail have in common: what the host hands over at the start, and how processes are looked at from outside."""

from __future__ import annotations

import math
import os
import secrets
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from orrery.kit.sandbox.inside.supervisor import descendants
from orrery.kit.sandbox.interpreter import Interpreter
from orrery.kit.sandbox.outcome import Limits

OPEN_FILES = 128
NOBODY = 65534
_FIRST_USER, _USERS = 1_900_000_000, 100_000_000
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Cell(Protocol):
    """A jail with one program in it, which waits for its job."""

    process: subprocess.Popen[bytes]

    def settle(self, number: int) -> dict[str, Any]:
        """The program has given up its rights and says it is process `number`: what to add to its job.

        That is `filter`, the system calls it may still make, and `files`, those it must lay out itself.
        """
        ...

    def end(self) -> None:
        """End every process of the jail; when this returns, there is none."""
        ...


class Backend(Protocol):
    """A way to make cells."""

    name: str

    def open(
        self, limits: Limits, *, files: Mapping[str, bytes], job: int, answer: int, links: tuple[int, ...]
    ) -> Cell:
        """Start a cell that reads its job from one pipe and writes its answer to another; `links` are left open for it."""
        ...


def resources(limits: Limits, *, processes: int) -> dict[str, int]:
    """Limits as RLIMIT names and values."""
    return {
        "AS": limits.memory,
        "CPU": math.ceil(limits.cpu_seconds) + 1,
        "FSIZE": limits.disk,
        "NPROC": processes,
        "NOFILE": OPEN_FILES,
        "CORE": 0,
        "MEMLOCK": 0,
        "MSGQUEUE": 0,
        "NICE": 0,
        "RTPRIO": 0,
    }


def is_root() -> bool:
    """Whether we run as root, and so can become somebody else."""
    return os.geteuid() == 0


def user_of_its_own() -> int:
    """A user number that nobody else has, so that a limit on one run's processes counts that run's alone.

    It is one from a range that systems leave free, or `nobody` in a container that maps no such numbers.
    """
    mapped = (map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines())
    if any(start <= _FIRST_USER and start + count >= _FIRST_USER + _USERS for start, _, count in mapped):
        return _FIRST_USER + secrets.randbelow(_USERS)
    return NOBODY


def open_to_all(interpreter: Interpreter) -> bool:
    """Whether any user can reach the interpreter's library."""
    return all(
        folder.stat().st_mode & 0o001 for folder in (interpreter.library, *interpreter.library.parents)
    )


def memory_of(process: int, *, started_with: int = 0) -> int:
    """Bytes of memory of their own that a process and its descendants hold.

    Args:
        started_with: what one such process held at the start. It is left out for each: forks share it.
    """
    total = 0
    for number in (process, *descendants(process)):
        try:
            resident, of_files = map(int, Path(f"/proc/{number}/statm").read_text().split()[1:3])
        except OSError:
            continue  # it ended meanwhile
        total += max(0, (resident - of_files) * _PAGE - started_with)
    return total
