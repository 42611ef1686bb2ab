"""A control group for one run, where this process may make one: a limit on memory and on processes that nobody escapes.

Version 1 keeps one tree a controller, version 2 one tree for all; groups are made below this process's own, so that whatever
bounds it also bounds them. kernel Documentation/admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orrery.kit.sandbox.outcome import Limits

ROOT = Path("/sys/fs/cgroup")
_MEMORY = ("memory.max", "memory.limit_in_bytes")
_NO_SWAP = {"memory.swap.max": "0", "memory.memsw.limit_in_bytes": None}
_DEATHS = ("memory.events", "memory.oom_control")
_numbers = itertools.count()


@dataclass(frozen=True)
class Group:
    """The folders of one run's group: one, or one a controller."""

    folders: tuple[Path, ...]

    def add(self, processes: Iterable[int]) -> None:
        """Move processes in; what they start from now on is in it too."""
        for folder in self.folders:
            for process in processes:
                with suppress(ProcessLookupError):
                    (folder / "cgroup.procs").write_text(str(process))

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended a process of the group because of its memory."""
        for folder in self.folders:
            for name in _DEATHS:
                if (folder / name).exists():
                    rows = dict(line.split() for line in (folder / name).read_text().splitlines())
                    return int(rows.get("oom_kill", 0)) > 0
        return False

    def remove(self) -> None:
        """Take the group away once its processes are gone."""
        for folder in self.folders:
            for _ in range(100):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.01)  # the last process is still being taken apart


def places(root: Path = ROOT, own: str | None = None) -> tuple[Path, ...]:
    """The folders in which groups can be made: empty where this process may not.

    Args:
        own: the text of /proc/self/cgroup.
    """
    rows = (own if own is not None else Path("/proc/self/cgroup").read_text()).splitlines()
    where = {names: path.strip("/") for _, names, path in (row.split(":", 2) for row in rows)}
    if all(name in where and (root / name).is_dir() for name in ("pids", "memory")):
        folders = tuple(root / name / where[name] for name in ("pids", "memory"))
    else:
        folders = (root / where.get("", ""),)
    return folders if all(_usable(folder) for folder in folders) else ()


def _usable(folder: Path) -> bool:
    _sweep(folder)
    try:
        group = _make(folder)
    except OSError:
        return False
    limited = any((group / name).exists() for name in ("pids.max", *_MEMORY))
    group.rmdir()
    return limited


def open_group(folders: tuple[Path, ...], limits: Limits) -> Group | None:
    """A new group with these limits below `places()`; None where there are none."""
    if not folders:
        return None
    made = tuple(_make(folder) for folder in folders)
    # Scratch lies in memory and is charged to the group; and so are the jail's own processes, of which there are up to three.
    total = str(limits.memory + limits.disk)
    for folder in made:
        settings = {name: total for name in _MEMORY} | {"pids.max": str(limits.processes + 3)}
        settings |= {name: value or total for name, value in _NO_SWAP.items()}
        for name, value in settings.items():
            if (folder / name).exists():
                (folder / name).write_text(value)
    return Group(made)


def _make(folder: Path) -> Path:
    group = folder / f"orrery-{os.getpid()}-{next(_numbers)}"
    group.mkdir()
    return group


def _sweep(folder: Path) -> None:
    """Remove empty groups of hosts that were killed before they could."""
    for group in folder.glob("orrery-*"):
        if not Path("/proc", group.name.split("-")[1]).exists():
            try:
                group.rmdir()
            except OSError:
                continue
