"""The first choice: bubblewrap, which gives the code a system of its own.

The jail has its own processes, network (none), shared memory, host name and mounts: Python and the system's libraries, to
read; /tmp in memory, bounded; four devices. There is no /proc, /sys, /etc or home, and bubblewrap itself starts with an empty
environment, so no process in the jail ever held a variable of ours. Started by root, our program in the jail becomes a user
that exists nowhere else, under whom limits on processes hold; started by anybody else, the jail is a user namespace.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orrery.kit.sandbox import policy
from orrery.kit.sandbox.cell import NOBODY, is_root, resources, user_of_its_own
from orrery.kit.sandbox.inside import confine
from orrery.kit.sandbox.inside.supervisor import descendants
from orrery.kit.sandbox.interpreter import Interpreter
from orrery.kit.sandbox.outcome import Limits, SandboxUnavailable

SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store")
"""Where shared libraries lie."""
DEVICES = ("null", "zero", "full", "urandom", "random")
HOME = Path("/python")
"""Where the interpreter appears in the jail, so that no path tells of this machine."""
INSTALL = "install it: apt-get install bubblewrap, dnf install bubblewrap or apk add bubblewrap"


class BubblewrapCell:
    """A jail made by `bwrap`: the outer process is its parent, the inner one is process 1 in there."""

    def __init__(self, process: subprocess.Popen[bytes], files: Mapping[str, bytes]) -> None:
        self.process = process
        self._files = files
        self._inner: int | None = None

    def settle(self, number: int) -> dict[str, Any]:
        """Take hold of the jail's process 1: when it ends, the kernel has ended everything in there (pid_namespaces(7))."""
        inside = descendants(self.process.pid)
        first = min(
            inside, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        )
        self._first, self._inner = first, confine.watch(first)
        files = {name: data.hex() for name, data in self._files.items()}
        return {"filter": policy.sealed().hex(), "files": files}

    def end(self) -> None:
        """Kill process 1 and wait until it and all others are gone."""
        if self._inner is None:
            self.process.kill()
            self.process.wait()
            return
        if not select.select([self._inner], [], [], 0)[0]:  # it lives, so its number is still its own
            with suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        self.process.wait()
        select.select([self._inner], [], [])
        os.close(self._inner)
        self._inner = None


class Bubblewrap:
    """Makes jails with the system's `bwrap`."""

    name = "bubblewrap"

    def __init__(self, interpreter: Interpreter) -> None:
        """Raises:
        SandboxUnavailable: no such program, or a machine that we have no filter for.
        """
        found = shutil.which("bwrap")
        if found is None:
            raise SandboxUnavailable(f"the program bwrap is not there; {INSTALL}")
        if not policy.here():
            raise SandboxUnavailable(
                "there are system call filters for Linux on x86_64 and aarch64 alone; run it there"
            )
        self._program = found
        self._interpreter = interpreter

    def open(
        self, limits: Limits, *, files: Mapping[str, bytes], job: int, answer: int, links: tuple[int, ...]
    ) -> BubblewrapCell:
        """Start a jail."""
        plan: dict[str, Any] = {
            "job": job,
            "answer": answer,
            "scratch": "/tmp",
            "tmpfs": {"size": limits.disk, "files": limits.files},
            "resources": resources(limits, processes=limits.processes),
            "user": user_of_its_own() if is_root() else None,
            "keep_search": False,
            "landlock": None,
        }
        with tempfile.TemporaryFile() as rules:
            rules.write(policy.before())
            rules.flush()
            rules.seek(0)
            process = subprocess.Popen(
                [
                    self._program,
                    *self._walls(limits),
                    "--seccomp",
                    str(rules.fileno()),
                    "--",
                    *self._inmate(plan),
                ],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(rules.fileno(), job, answer, *links),
            )
        return BubblewrapCell(process, files)

    def _inmate(self, plan: dict[str, Any]) -> list[str]:
        return self._interpreter.command(HOME / "bin" / self._interpreter.executable.name, plan)

    def _walls(self, limits: Limits) -> list[str]:
        """What there is in the jail, and which rights our program has there until it gives them up."""
        namespaces = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup"]
        if not is_root():
            namespaces = ["--unshare-all", "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        rights = ["--cap-drop", "ALL"]
        for right in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"):
            rights += ["--cap-add", right]
        files = ["--dir", "/dev", "--dir", "/usr", "--dir", str(HOME), "--dir", f"{HOME}/bin"]
        files += [
            "--ro-bind",
            str(self._interpreter.executable),
            f"{HOME}/bin/{self._interpreter.executable.name}",
        ]
        for folder in self._interpreter.folders:
            files += ["--ro-bind", str(folder), str(HOME / folder.name)]
        installed = HOME / self._interpreter.library.relative_to(self._interpreter.prefix) / "site-packages"
        if (self._interpreter.library / "site-packages").is_dir():
            files += ["--tmpfs", str(installed), "--remount-ro", str(installed)]
        for path in map(Path, SYSTEM):
            if path.is_symlink():
                files += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                files += ["--ro-bind", str(path), str(path)]
        for name in DEVICES:
            files += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
        # POSIX shared memory and semaphores live in /dev/shm: here that is scratch, so that its limits hold for them too.
        scratch = [
            "--perms",
            "1777",
            "--size",
            str(limits.disk),
            "--tmpfs",
            "/tmp",
            "--symlink",
            "/tmp",
            "/dev/shm",
        ]
        return [
            *namespaces,
            *("--hostname", "sandbox", "--new-session", "--die-with-parent"),
            *rights,
            *files,
            *scratch,
            *("--remount-ro", "/", "--chdir", "/tmp"),
            *("--setenv", "LD_LIBRARY_PATH", f"{HOME}/lib"),
        ]
