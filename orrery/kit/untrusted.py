"""Files that somebody else made: only regular files are opened, only inside their folder, only for what they are.

A path may turn out to be a pipe that never ends, a device, a link out of the folder, or another format under a borrowed
name. What a file is, is decided by its first bytes; its suffix must agree. Nothing here unpacks or unpickles anything.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orrery.kit.errors import OrreryError, suggest

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (torch and numpy archives are such)"),
    (b"PK\x05\x06", "a zip archive (torch and numpy archives are such)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"Rar!", "a rar archive"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a parquet file"),
    (b"GGUF", "a GGUF file"),
    (b"ggml", "a file of an old ggml format"),
    (b"lmgg", "a file of an old ggml format"),
    (b"tjgg", "a file of an old ggml format"),
    (b"version https://git-lfs", "a git-lfs pointer: the file itself was not fetched"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"\x7fELF", "a program"),
)
"""What the first bytes say a file is."""

FOREIGN = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".p", ".joblib", ".dill", ".mar", ".nemo"),
                    "pickled weights can run code and are never read; convert them to safetensors where they came from"),
    **dict.fromkeys((".npy", ".npz"), "numpy files are not a format orrery reads; write the arrays as safetensors"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
                    "archives are not opened; unpack it first and give the folder"),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pb", ".onnx", ".tflite", ".msgpack", ".mlmodel", ".ot", ".pte", ".engine"),
                    "not a format orrery reads; get the model as safetensors or GGUF"),
}  # fmt: skip
"""Suffixes of model files that are not read, and why."""

PICKLE_PROTOCOLS = range(2, 6)
HEAD = 512


def stat_regular(path: Path, what: str = "a file") -> os.stat_result:
    """The `stat` of a regular file, links followed.

    Raises:
        OrreryError: missing, a dangling link, a loop of links, a folder, a pipe, a device, or not to be reached.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            raise OrreryError(
                f"'{path}' is a link to a file that is not there; copy the file itself"
            ) from None
        siblings = os.listdir(path.parent) if path.parent.is_dir() else []
        raise OrreryError(f"no file at '{path}'.{suggest(path.name, siblings[:1000])}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OrreryError(f"cannot read '{path}': {reason}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise OrreryError(f"'{path}' is {kind}, not a regular file; give {what}")
    return status


@contextmanager
def open_regular(
    path: str | Path, what: str = "a file", *, max_bytes: int | None = None
) -> Iterator[BinaryIO]:
    """Open a regular file for reading; never waits at a pipe or reads from a device.

    Raises:
        OrreryError: as `stat_regular`, or the file is larger than `max_bytes`.
    """
    path = Path(path)
    size = stat_regular(path, what).st_size
    if max_bytes is not None and size > max_bytes:
        raise OrreryError(
            f"'{path}' has {size:,} bytes, over the limit of {max_bytes:,} for {what}; it is damaged or not {what}"
        )
    try:
        # Without O_NONBLOCK a pipe put there between stat and open would be waited for; on a file it says nothing.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as handle:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OrreryError(f"'{path}' is not a regular file; give {what}")
        yield handle


def read_regular(path: str | Path, what: str = "a file", *, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`, also when it grows while it is read."""
    with open_regular(path, what, max_bytes=max_bytes) as handle:
        try:
            data = handle.read(max_bytes + 1)
        except OSError as error:
            raise OrreryError(f"cannot read '{path}': {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise OrreryError(
            f"'{path}' is over the limit of {max_bytes:,} bytes for {what}; it grows while it is read"
        )
    return data


def plain_name(name: object, where: str | Path) -> str:
    """`name` if it is the name of a file and nothing else: no folder, no parent, no control character.

    Raises:
        OrreryError: it is not; `where` says which file and key hold it.
    """
    plain = (
        isinstance(name, str)
        and 0 < len(name) <= 255
        and name.isprintable()
        and not name.startswith(".")
        and re.search(r'[\\/:*?"<>|]', name) is None
    )
    if not plain:
        raise OrreryError(
            f"{where}: {str(name)[:80]!r} is not the plain name of a file in the same folder; get the model again"
        )
    return str(name)


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder, once its links are followed and found to stay in the folder.

    A snapshot in a Hugging Face cache (`snapshots/<revision>/`) holds links into the `blobs` beside it; these are followed.

    Raises:
        OrreryError: a link leads out of the folder, or in a circle.
    """
    path = folder / name
    try:
        if not path.is_symlink():
            return path
        root, target = folder.resolve(strict=True), path.resolve(strict=True)
    except FileNotFoundError:
        raise OrreryError(f"'{path}' is a link to a file that is not there; copy the file itself") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise OrreryError(
            f"cannot read '{path}': {getattr(error, 'strerror', None) or 'a loop of links'}"
        ) from None
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise OrreryError(f"'{path}' is a link out of the folder; copy the file into it")
    return path


def describe(head: bytes) -> str | None:
    """What a file is that begins with these bytes, where that is known and is no text, JSON or safetensors."""
    known = next((what for magic, what in MAGIC if head.startswith(magic)), None)
    if known is None and head[:1] == b"\x80" and len(head) > 1 and head[1] in PICKLE_PROTOCOLS:
        known = "a pickle, which can run code"
    if known is None and head[257:262] == b"ustar":
        known = "a tar archive"
    return known


def head_of(path: Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OrreryError: as `open_regular`, or it cannot be read.
    """
    with open_regular(path) as handle:
        try:
            return handle.read(HEAD)
        except OSError as error:
            raise OrreryError(f"cannot read '{path}': {error.strerror or error}") from None


def refuse_foreign(path: str | Path) -> None:
    """Refuse a file given as a model that is of a format we do not read, by its suffix or by its first bytes.

    Returns for a folder, a `.gguf` or `.safetensors` file whose content agrees, and for other text.

    Raises:
        OrreryError: a pickle, an archive, a numpy array ..., or a file whose content and suffix disagree.
    """
    path = Path(path)
    if path.is_dir():
        return
    stat_regular(path, "a model")
    suffix = path.suffix.lower()
    found = describe(head_of(path))
    if suffix in FOREIGN:
        holds = f" (it holds {found})" if found else ""
        raise OrreryError(f"'{path}'{holds}: {FOREIGN[suffix]}")
    if found is None or (suffix == ".gguf" and found == "a GGUF file"):
        return
    if found == "a GGUF file":
        raise OrreryError(f"'{path}' holds a GGUF file; give it the suffix .gguf")
    raise OrreryError(f"'{path}' holds {found}; orrery reads models as safetensors or GGUF")
