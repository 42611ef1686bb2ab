"""cpp/kernel.cpp compiled once by the machine's own compiler, kept in the user's cache, loaded by ctypes.

The file's name is a hash of the source, the flags, the compiler's version and the processor's features, so a new version of any of them is
compiled anew and a home folder shared by several machines keeps one library for each. The library is written under a temporary
name and renamed: two processes that compile at once both end with a whole file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("cpp") / "kernel.cpp"
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-w")
"""No contraction: where numbers are fused is written in the source, so every instruction set rounds alike."""
COMPILERS = ("c++", "g++", "clang++")
TIMEOUT_S = 120


class BuildError(Exception):
    """There will be no compiled kernel here; the message says why."""


def compiler() -> str:
    """The C++ compiler: $CXX, else the first of c++, g++, clang++ on the path.

    Raises:
        BuildError: there is none.
    """
    chosen = os.environ.get("CXX")
    for name in [chosen] if chosen else COMPILERS:
        if path := shutil.which(name):
            return path
    wanted = f"$CXX ({chosen})" if chosen else ", ".join(COMPILERS)
    raise BuildError(f"no C++ compiler found (looked for {wanted})")


def machine_flags() -> tuple[str, ...]:
    """What selects the instruction set: $ORRERY_LOWBIT_MARCH (flags, or a name such as x86-64-v3), else this machine's own."""
    chosen = os.environ.get("ORRERY_LOWBIT_MARCH", "").split()
    if chosen:
        return tuple(flag if flag.startswith("-") else f"-march={flag}" for flag in chosen)
    return ("-mcpu=native",) if platform.machine().lower() in ("arm64", "aarch64") else ("-march=native",)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/orrery/lowbit or ~/.cache/orrery/lowbit, made if need be, for this user alone.

    A library is code: a folder that others may write to is not used.

    Raises:
        BuildError: it cannot be made, or belongs to or is open to somebody else.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(root) if root else Path.home() / ".cache") / "orrery" / "lowbit"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
    except (OSError, RuntimeError) as error:
        raise BuildError(f"the cache folder '{folder}' cannot be made ({error})") from None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise BuildError(f"the cache folder '{folder}' can be written to by other users")
    return folder


def library() -> ctypes.CDLL:
    """The kernel, compiled if it is not in the cache.

    Raises:
        BuildError: no compiler, no place to write, or the compiler failed.
    """
    if sys.byteorder != "little":
        raise BuildError("the kernel reads little-endian numbers")
    command = [compiler(), *FLAGS, *machine_flags()]
    target = cache_folder() / f"kernel-{_key(command)}.so"
    if target.exists():
        try:
            return ctypes.CDLL(str(target))
        except OSError:
            pass  # a damaged file: make it again
    _compile(command, target)
    try:
        return ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f"the compiled kernel does not load ({error})") from None


def _compile(command: list[str], target: Path) -> None:
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "kernel.so"
            done = subprocess.run(
                [*command, str(SOURCE), "-o", str(made)], capture_output=True, text=True, timeout=TIMEOUT_S
            )
            if done.returncode:
                message = " ".join(done.stderr.split())[:300]
                raise BuildError(f"'{' '.join(command)}' failed: {message}")
            made.replace(target)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the compiler took more than {TIMEOUT_S} s") from None
    except OSError as error:
        raise BuildError(f"cannot compile into '{target.parent}' ({error})") from None


def _key(command: list[str]) -> str:
    try:
        version = subprocess.run([command[0], "--version"], capture_output=True, timeout=TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the compiler '{command[0]}' does not run ({error})") from None
    sources = [path.read_bytes() for path in sorted(SOURCE.parent.iterdir())]
    parts = [*sources, "\0".join(command).encode(), version, _processor().encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _processor() -> str:
    """What -march=native would look at: the features Linux lists, else the system's name for the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()} {platform.platform()}"
