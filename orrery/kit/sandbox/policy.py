"""Which system calls generated code may make: a list of what is allowed, everything else is refused."""

from __future__ import annotations

import os
import platform

from orrery.kit.sandbox import syscalls
from orrery.kit.sandbox.bpf import Among, Rule, Without, assemble

_NEW_NAMESPACE = 0x7E020000
"""The bits CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} of `clone`."""
_UNIX = 1
_TERMINAL_SIZE_AND_FLAGS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""`ioctl`: is it a terminal, its size, bytes waiting, non-blocking, close on exec. Not: push input (TIOCSTI), own signals."""
_DESCRIPTOR = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
"""`fcntl`: duplicate, flags, locks, size of a pipe. Not: whom to signal (F_SETOWN, F_SETSIG), larger pipes (memory)."""
_NAMES = (15, 16, 0x53564D41)
"""`prctl`: the name of a thread and of a piece of memory."""
_OWN_LIMITS = 0
_SET_ID = 0o6000

_TESTS = {
    "socket": Among(0, ()),
    "socketpair": Among(0, (_UNIX,)),
    "clone": Without(0, _NEW_NAMESPACE),
    "ioctl": Among(1, _TERMINAL_SIZE_AND_FLAGS),
    "fcntl": Among(1, _DESCRIPTOR),
    "prctl": Among(0, _NAMES),
    "prlimit64": Among(0, (_OWN_LIMITS,)),
    "chmod": Without(1, _SET_ID),
    "fchmod": Without(1, _SET_ID),
    "fchmodat": Without(2, _SET_ID),
}
_ABOUT_A_PROCESS = (
    *("kill", "tkill", "tgkill", "getpgid", "getsid", "setpgid", "getpriority"),
    *("sched_getaffinity", "sched_getparam", "sched_getscheduler"),
)
_ABOUT_A_FILE = ("chmod", "fchmod", "fchmodat", "utimensat", "utime", "utimes", "futimesat", "truncate")
_FREE = (
    syscalls.FILES,
    syscalls.MEMORY,
    syscalls.TASKS,
    syscalls.SIGNALS,
    syscalls.TIME,
    syscalls.WAITING,
    syscalls.PAIRS,
)


def sealed(*, alone_with: int | None = None, machine: str = "") -> bytes:
    """The filter under which generated code runs: no program started, no network, no namespaces, nobody else's process.

    Args:
        alone_with: the process's own number, where it shares the host's processes and files: then it may ask about and
            signal that one alone, and change no file's mode, times or length by name. None in a jail with its own of both.
        machine: as `platform.machine()` names it; this one when empty.
    """
    looked_into = {name: _TESTS.get(name) for name in syscalls.numbers(syscalls.LOOKED_INTO, machine)}
    del looked_into[
        "clone3"
    ]  # its flags lie in memory, which a filter cannot read; without it, `clone` is used
    if alone_with is not None:
        looked_into |= {name: Among(0, (0, alone_with)) for name in _ABOUT_A_PROCESS}
        looked_into |= {name: Among(0, ()) for name in _ABOUT_A_FILE if name in looked_into}
        looked_into["tkill"] = Among(0, (alone_with,))
    return _assemble(looked_into, machine)


def before(machine: str = "") -> bytes:
    """The filter under which our own program starts in the jail: `sealed`, and what it needs to seal itself in."""
    looked_into = {name: _TESTS.get(name) for name in syscalls.numbers(syscalls.LOOKED_INTO, machine)}
    del looked_into["clone3"]
    return _assemble(looked_into | {"prctl": None}, machine, syscalls.SETUP)


def _assemble(looked_into: dict[str, Among | Without | None], machine: str, *more: str) -> bytes:
    machine = machine or platform.machine()
    rules = [Rule(n) for group in (*_FREE, *more) for n in syscalls.numbers(group, machine).values()]
    known = syscalls.numbers(syscalls.LOOKED_INTO, machine)
    rules += [Rule(known[name], test) for name, test in looked_into.items()]
    return assemble(rules, syscalls.MACHINES[machine])


def here() -> bool:
    """Whether filters for this machine can be made."""
    return os.name == "posix" and platform.system() == "Linux" and platform.machine() in syscalls.MACHINES
