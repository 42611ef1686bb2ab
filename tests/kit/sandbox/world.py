"""What a hostile program would like to reach: secrets, listeners, shared memory and processes of the host."""

from __future__ import annotations

import ctypes
import os
import platform
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from orrery.kit.sandbox import Limits, Outcome, Sandbox
from orrery.kit.sandbox.inside.supervisor import descendants

QUICK = Limits(seconds=60.0, cpu_seconds=20.0, memory=256 << 20)
SHORT = Limits(seconds=1.0, cpu_seconds=1.0, memory=256 << 20)
PRELUDE = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(work, *given, **named):
    try:
        return ["came through", repr(work(*given, **named))[:300]]
    except BaseException as error:
        return ["refused", f"{type(error).__name__}: {error}"[:200]]
def syscall(number, *given):
    ctypes.set_errno(0)
    return libc.syscall(number, *given), errno.errorcode.get(ctypes.get_errno(), "")
"""
_ARM = platform.machine() == "aarch64"


def number(x86: int, arm: int) -> int:
    """A system call's number on this machine."""
    return arm if _ARM else x86


class World:
    """The host's side of the cases, as whichever user it is made by."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.shared = sandbox.kind == "landlock"  # the host's processes and files are there, and closed
        self.token = secrets.token_hex(8)
        self.folder = Path(tempfile.mkdtemp(prefix="orrery-world-"))
        self.secret = f"secret-{self.token}"
        self.home, self.work = self.folder / "home", self.folder / "work"
        self.shm = Path("/dev/shm") / f"orrery-{self.token}"
        self.canaries = [self.home / "canary", self.work / "canary", self.folder / "canary", self.shm]
        for canary in self.canaries:
            canary.parent.mkdir(exist_ok=True)
            canary.write_text(self.secret)
        os.environ["ORRERY_SECRET"] = self.secret
        self.neighbour = subprocess.Popen(["sleep", "600"])
        self.children = descendants(os.getpid())
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0orrery-{self.token}")
        self.local = socket.socket(socket.AF_UNIX)
        self.local.bind(str(self.folder / "socket"))
        for listener in (self.tcp, self.abstract, self.local):
            listener.listen()
            listener.setblocking(False)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.segment_key = secrets.randbelow(2**30) + 1
        self.segment = self.libc.shmget(self.segment_key, 4096, 0o1666)  # IPC_CREAT
        self._before = self._state()
        begun = time.monotonic()
        sandbox.run("")
        self.grace = 1 + 20 * (time.monotonic() - begun)  # a second, and what a busy machine adds to it

    def _state(self) -> list[Any]:
        kept = [(str(c), c.read_text(), c.stat().st_mode, c.stat().st_mtime_ns) for c in self.canaries]
        return [
            kept,
            sorted(os.listdir(self.folder)),
            sorted(os.listdir(self.home)),
            sorted(os.listdir(self.work)),
        ]

    def check_untouched(self) -> None:
        """The secrets are as they were, nothing was added beside them, nobody called, the neighbour lives."""
        assert self._state() == self._before
        places = ("/", "/tmp", "/usr", "/usr/lib", "/var/tmp", "/dev", "/dev/shm", os.getcwd())
        escaped = [f"{p}/{n}" for p in places for n in os.listdir(p) if n.startswith(f"escape-{self.token}")]
        assert escaped == []
        assert self.neighbour.poll() is None
        for listener in (self.tcp, self.abstract, self.local):
            try:
                listener.accept()
            except BlockingIOError:
                continue
            raise AssertionError("somebody called from the jail")

    def close(self) -> None:
        """Take it all away."""
        self.neighbour.kill()
        self.neighbour.wait()
        for listener in (self.tcp, self.abstract, self.local):
            listener.close()
        self.libc.shmctl(self.segment, 0, None)  # IPC_RMID
        self.shm.unlink()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def run(self, code: str, *, limits: Limits = QUICK, **more: Any) -> Outcome:
        """Run a program that may use `tried` and `syscall`."""
        return self.sandbox.run(PRELUDE + code, limits=limits, **more)

    def ask(self, code: str, *arguments: Any, limits: Limits = QUICK) -> Any:
        """What the function `attempt` of `code` returns; nothing of the host's may be in it."""
        outcome = self.run(code, call="attempt", arguments=arguments, limits=limits)
        assert outcome.status == "ok", outcome
        assert self.secret not in repr(outcome), "a secret came out"
        return outcome.value

    def refused(self, body: str, *arguments: Any) -> list[str]:
        """`body` makes a list of `tried(...)`, all of which must be refused; the reasons."""
        found = self.ask(
            f"def attempt(*given):\n    made = []\n{_indent(body)}\n    return made\n", *arguments
        )
        assert found, "nothing was tried"
        assert all(kind == "refused" for kind, _ in found), found
        return [why for _, why in found]


def _indent(body: str) -> str:
    return "\n".join("    " + line for line in body.strip("\n").splitlines())
