"""Writes that a crash cannot leave half done: a temporary sibling, fsync, rename, fsync of the parent.

Every write, fsync and rename goes through `ops`, so a test can stop the process at any one of them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orrery.kit.errors import OrreryError


class FileOps:
    """The system calls a durable save is made of. Tests replace `files.ops` by a subclass that fails at call k."""

    def write(self, path: Path, data: bytes) -> None:
        with open(path, "wb") as handle:
            handle.write(data)

    def append(self, handle: BinaryIO, data: bytes | memoryview) -> None:
        handle.write(data)

    def fsync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


ops = FileOps()


def write_file(path: str | Path, data: bytes | str) -> None:
    """Write one file inside a folder that is itself being made atomically (no fsync: the folder does it)."""
    ops.write(Path(path), data.encode() if isinstance(data, str) else data)


def atomic_write(path: str | Path, data: bytes | str) -> None:
    """Replace the file at `path`; a reader sees the old content or the new, never a part.

    Raises:
        OrreryError: the folder cannot be written (read-only, full disk ...). The old file is intact.
    """
    path = Path(path)
    temporary = _sibling(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            ops.write(temporary, data.encode() if isinstance(data, str) else data)
            ops.fsync(temporary)
            ops.rename(temporary, path)
            ops.fsync(path.parent)
        except BaseException:
            ops.remove(temporary)
            raise


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Callable[[bytes | memoryview], None]]:
    """Replace the file at `path` piece by piece: yields a function that appends bytes; on success they become `path`.

    For files too large to hold whole; `atomic_write` is simpler where they are not.

    Raises:
        OrreryError: the folder cannot be written (read-only, full disk ...). The old file is intact.
    """
    path = Path(path)
    temporary = _sibling(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as handle:
                yield lambda data: ops.append(handle, data)
            ops.fsync(temporary)
            ops.rename(temporary, path)
            ops.fsync(path.parent)
        except BaseException:
            ops.remove(temporary)
            raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder whole or not at all: yields a temporary folder to fill, which becomes `path` on success.

    An existing folder at `path` is exchanged in one step where the system can (Linux), and removed after.
    """
    path = Path(path)
    temporary = _sibling(path)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        try:
            yield temporary
            for item in sorted(temporary.rglob("*")):
                if item.is_file():
                    ops.fsync(item)
            for item in sorted((p for p in temporary.rglob("*") if p.is_dir()), reverse=True):
                ops.fsync(item)
            ops.fsync(temporary)
            if path.exists():
                _exchange(temporary, path)
            else:
                ops.rename(temporary, path)
            ops.fsync(path.parent)
        finally:
            if temporary.exists():
                ops.remove(temporary)


def sweep(folder: str | Path) -> None:
    """Remove what a killed process left behind: temporary siblings made by this module."""
    for item in Path(folder).glob(".*.partial"):
        ops.remove(item)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sibling(path: Path) -> Path:
    return path.parent / f".{path.name}.{uuid.uuid4().hex[:12]}.partial"


def _exchange(new: Path, old: Path) -> None:
    """Swap two folders in one step by renameat2(RENAME_EXCHANGE); elsewhere by two renames."""
    exchange, here = 2, -100  # RENAME_EXCHANGE, AT_FDCWD
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        if renameat2(here, os.fsencode(new), here, os.fsencode(old), exchange) == 0:
            return
    except (AttributeError, OSError):
        pass
    aside = _sibling(old)
    ops.rename(old, aside)
    ops.rename(new, old)
    ops.remove(aside)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OrreryError(
            f"cannot write '{path}': {error.strerror or error}; free some space or choose another folder"
        ) from error
