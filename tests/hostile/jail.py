"""A child process in which a file is opened: limits on memory and time, and an audit hook that notes what it may not do.

`Forge` is a process of its own that has imported everything and forks a child for each case (or each batch of mutants), so
that a case costs milliseconds and a crash is a result. What a child does beyond reading its folder is a violation: opening a
file elsewhere or for writing, a socket, a program, unpickling, running code from the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEMORY = 768 << 20
"""Address space a child may take beyond what it was born with."""
CPU_S = 20
ROOT = Path(__file__).resolve().parents[2]
_PLACES = (
    sys.prefix,
    sys.base_prefix,
    sysconfig.get_path("stdlib"),
    str(ROOT / "orrery"),
    str(ROOT / "tests"),
)
_SYSTEM = (
    "/proc/self",
    "/dev/null",
    "/dev/urandom",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/proc/cpuinfo",
)
_ROOTS = (*(os.path.realpath(place) for place in _PLACES), *_SYSTEM)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one case: "accepted", "refused", or how it failed."""

    result: str
    message: str = ""
    violations: tuple[str, ...] = ()
    seconds: float = 0.0
    """Processor time."""
    wall: float = 0.0
    extra_mib: float = 0.0


class Watch:
    """The audit hook of a child. A hook cannot be taken away, so it looks at `folder`, which changes."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.writable = False
        """Whether files inside the folder may be written: where what opens a file also puts it there."""
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        folder, self.folder = self.folder, None  # what the hook itself does is not looked at
        try:
            fault = self._fault(folder, event, args, self.writable)
            if fault:
                self.seen.append(fault[:300])
        finally:
            self.folder = folder

    @staticmethod
    def _fault(folder: str, event: str, args: tuple[Any, ...], writable: bool) -> str | None:
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int):
                return None
            real = os.path.realpath(os.fsdecode(path))
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            within = real == folder or real.startswith(folder + os.sep)
            if (writes or (isinstance(mode, str) and set(mode) & set("wax+"))) and not (within and writable):
                return f"opened for writing: {real}"
            library = any(real == root or real.startswith(root + os.sep) for root in _ROOTS)
            return None if within or library else f"opened outside the folder: {real}"
        if event.startswith(("socket.", "http.", "urllib.", "ftplib.", "smtplib.", "imaplib.")):
            return f"network: {event}"
        if event in (
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
            "os.spawn",
            "os.fork",
            "os.startfile",
            "pty.spawn",
        ):
            return f"program: {event} {args[:1]}"
        if event == "pickle.find_class":
            return f"{event} {args}"
        if event in (
            "ctypes.dlopen",
            "os.remove",
            "os.rename",
            "os.chmod",
            "os.mkdir",
            "os.symlink",
            "os.truncate",
        ):
            named = args[0]
            inside = isinstance(named, str | bytes | os.PathLike) and os.path.realpath(
                os.path.dirname(named)
            ).startswith(folder)
            return None if named is None or inside else f"{event} {named!r}"
        if event in ("exec", "compile", "import"):
            name = args[0].co_filename if event == "exec" else args[1]
            made = isinstance(name, str) and name.startswith(
                "<"
            )  # what namedtuple and the like write for themselves
            if (
                isinstance(name, str | bytes)
                and not made
                and os.path.realpath(os.fsdecode(name)).startswith(folder + os.sep)
            ):
                return f"code from the folder: {event} {name!r}"
        return None


def status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    return 0


def limit(memory: int = MEMORY, cpu_s: int = CPU_S) -> None:
    """Limits of this process from here on."""
    most = status("VmSize") + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def measured(action: Callable[[], object], watch: Watch, folder: Path) -> Outcome:
    """Run `action` and judge how it ends."""
    from orrery.kit.errors import OrreryError

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, began, wall = status("VmRSS"), time.process_time(), time.monotonic()
    watch.seen.clear()
    watch.folder = os.path.realpath(folder)
    try:
        answer = action()
        result, message = "accepted", "" if answer is None else str(answer)
    except OrreryError as error:
        result, message = "refused", str(error)
    except MemoryError as error:
        result, message = "memory", repr(error)
    except BaseException as error:
        result, message = "untyped", f"{type(error).__module__}.{type(error).__name__}: {error}"
    finally:
        watch.folder = None
    seconds, wall = time.process_time() - began, time.monotonic() - wall
    extra = (status("VmHWM") - before) / 2**20
    where = os.path.realpath(folder) + os.sep
    loaded = [
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(where)
    ]
    seen = (*watch.seen, *(f"imported from the folder: {name}" for name in loaded))
    return Outcome(
        result=result, message=message, violations=tuple(seen), seconds=seconds, wall=wall, extra_mib=extra
    )


class Forge:
    """The other end: starts the process that forks, and talks to it in lines of JSON."""

    def __init__(self, module: str) -> None:
        self._here, there = socket.socketpair()
        self._noise = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the forge; libraries speak there when they give up
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "RAYON_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "RUST_BACKTRACE": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, str(there.fileno())],
            cwd=ROOT, pass_fds=[there.fileno()], env=environment, stderr=self._noise,
        )  # fmt: skip
        there.close()
        self._lines = self._here.makefile("r", encoding="utf-8")

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question, one answer."""
        line = ""
        with contextlib.suppress(OSError):
            self._here.sendall((json.dumps(question) + "\n").encode())
            line = self._lines.readline()
        if not line:
            code = self._process.wait()
            self._noise.seek(0)
            raise RuntimeError(
                f"the process that forks has ended (exit {code}): {self._noise.read()[-1500:]}"
            )
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._lines.close()
        self._here.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._noise.close()


def serve(
    descriptor: int, child: Callable[[dict[str, Any]], dict[str, Any]], *, timeout_s: float = 60.0
) -> None:
    """In the forge: for each question fork a child that answers it; a child that dies or hangs is an answer too."""
    channel = socket.socket(fileno=descriptor)
    lines = channel.makefile("r", encoding="utf-8")
    while line := lines.readline():
        channel.sendall((json.dumps(_in_child(json.loads(line), child, timeout_s)) + "\n").encode())


def _in_child(
    question: dict[str, Any], child: Callable[[dict[str, Any]], dict[str, Any]], timeout_s: float
) -> dict[str, Any]:
    reads, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reads)
            answer = json.dumps(child(question)).encode()
            with os.fdopen(writes, "wb") as pipe:
                pipe.write(answer)
            code = 0
        finally:
            os._exit(code)
    os.close(writes)
    data, ends = b"", time.monotonic() + timeout_s
    while True:
        ready, _, _ = select.select([reads], [], [], max(0.0, ends - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reads)
            return asdict(Outcome(result="hang", message=f"still busy after {timeout_s:g} s", wall=timeout_s))
        piece = os.read(reads, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(reads)
    _, state = os.waitpid(pid, 0)
    if data and os.waitstatus_to_exitcode(state) == 0:
        return json.loads(data)
    code = os.waitstatus_to_exitcode(state)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
    return asdict(Outcome(result="crash", message=how))
