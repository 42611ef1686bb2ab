"""Giving up rights, in this order: files on scratch, resource limits, user, capabilities, Landlock, and at last system calls.

Everything here acts on the process that calls it, for good. ctypes, because Python has no names for these calls.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Any

_REMOUNT = 0x20 | 0x2 | 0x4
"""MS_REMOUNT | MS_NOSUID | MS_NODEV."""
_SET_DUMPABLE, _KEEP_CAPS, _SET_SECCOMP, _NO_NEW_PRIVS, _DEATH_SIGNAL = 4, 8, 22, 38, 1
_CAPABILITY_VERSION = 0x20080522
_READ_SEARCH = 1 << 2
"""CAP_DAC_READ_SEARCH: to pass through folders whose mode says no."""
_PIDFD_OPEN = 434
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE = 1 << 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Landlock version -> how many rights over files it knows (16 from the fifth on)."""


def call(name: str, *arguments: Any) -> int:
    """A function of the C library; an OSError when it says -1."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = getattr(libc, name)(*arguments)
    if done == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return done


def watch(process: int) -> int:
    """A descriptor that becomes readable when a process has ended (pidfd_open(2)); some builds of Python have no name for it."""
    return call("syscall", _PIDFD_OPEN, process, 0)


def limit_scratch(size: int, files: int) -> None:
    """Bound the bytes and the number of files of the tmpfs at /tmp."""
    options = f"size={size},nr_inodes={files},mode=1777".encode()
    call("mount", None, b"/tmp", None, ctypes.c_ulong(_REMOUNT), options)


def limit_resources(limits: dict[str, int]) -> None:
    """RLIMIT_<name> for each name, hard: what is given up here cannot be had back."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # One second earlier, a processor limit ends the process by a signal that tells why.
        resource.setrlimit(kind, (most - 1 if name == "CPU" else most, most))


def drop_user(user: int, *, keep_search: bool) -> None:
    """Become `user`, without groups; keep one right, to pass through closed folders, where `keep_search`."""
    if keep_search:
        call("prctl", _KEEP_CAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def drop_capabilities(*, keep_search: bool) -> None:
    """Hold no capability, or CAP_DAC_READ_SEARCH alone."""
    kept = _READ_SEARCH if keep_search else 0
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    call("capset", header, struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def close_to_others() -> None:
    """No core file, no way in for a debugger, no way up through another program, and death with the parent."""
    call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
    call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)


def die_with_parent() -> None:
    """SIGKILL when the parent ends (prctl(2), PR_SET_PDEATHSIG); changing user undoes it, so call it after."""
    call("prctl", _DEATH_SIGNAL, 9, 0, 0, 0)


def landlock_version() -> int:
    """Which Landlock this kernel has: 0 for none."""
    version = ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def landlock(readable: list[str], devices: list[str]) -> None:
    """From now on, open nothing but what lies under `readable`, to read, and `devices`, to read and write.

    kernel Documentation/userspace-api/landlock.rst: a ruleset that handles every right over files grants none but those
    its rules name. Missing paths are left out.
    """
    version = landlock_version()
    handled = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    attributes = struct.pack("=Q", handled)
    ruleset = call("syscall", _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path in [*readable, *devices]:
        if not os.path.exists(path):
            continue
        rights = _READ_FILE | (_WRITE_FILE if path in devices else _READ_DIR if os.path.isdir(path) else 0)
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call("syscall", _ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0)
        os.close(place)
    call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def seal(program: bytes) -> None:
    """Install a seccomp filter for this process and all that it starts."""
    memory = ctypes.create_string_buffer(program, len(program))
    count = len(program) // 8
    filters = struct.pack("=H6xQ", count, ctypes.addressof(memory))  # struct sock_fprog
    call("prctl", _SET_SECCOMP, 2, filters, 0, 0)
