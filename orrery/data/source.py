"""Where text comes from: the running Python's own standard library, or the files of a person.

Everything streams: a document is read when it is asked for, and one too long to hold is cut on the way (cut.py).
Files are UTF-8; what cannot be read stops the run with the file and the place, or is counted and left out when
`unreadable` is "skip".
"""

from __future__ import annotations

import itertools
import os
import sysconfig
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from orrery.data.cut import Document
from orrery.data.reader import READABLE, kind_of, read_file, read_text_file
from orrery.kit.config import config
from orrery.kit.errors import OrreryError, suggest

NOT_LIBRARY = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
"""Folders of the standard library that are tests, or are not the standard library."""


@config
class StdlibSource:
    """Every .py file of the running Python's standard library but its tests: real text on any machine.

    Attributes:
        unreadable: "skip" counts a file that is not UTF-8 and goes on: nobody could mend it here. Or "error".
    """

    kind: Literal["stdlib"] = "stdlib"
    unreadable: Literal["skip", "error"] = "skip"


@config
class FilesSource:
    """Files, folders (all readable files below them) and glob patterns.

    Attributes:
        text_field: the field or column that holds the text, in JSON lines and parquet.
        unreadable: "error" stops at a file that is not text, is damaged, or has a bad line; "skip" counts it and goes on
            with the next line or row, or, where a whole file is damaged, with the next file.
    """

    kind: Literal["files"] = "files"
    paths: tuple[str, ...]
    text_field: str = "text"
    unreadable: Literal["error", "skip"] = "error"


Source = Annotated[StdlibSource | FilesSource, Field(discriminator="kind")]


@dataclass
class Meter:
    """How much of the input, in bytes as they lie on disk, has been read."""

    done: int = 0
    total: int = 0


def read_documents(
    source: StdlibSource | FilesSource,
    meter: Meter | None = None,
    unreadable: Callable[[str, OrreryError], None] | None = None,
) -> Iterator[Document]:
    """The documents of a source, in sorted order of their paths.

    Args:
        unreadable: told of each file (path, why) or line (path:line, why) that is left out, when the source says "skip".

    Raises:
        OrreryError: no such path, an empty folder, a file that is not text or is damaged, a bad JSON line.
    """
    meter = meter or Meter()
    files = stdlib_files() if isinstance(source, StdlibSource) else list_files(source.paths)
    meter.total = sum(file.stat().st_size for file in files)
    for file in files:
        try:
            if isinstance(source, StdlibSource):
                yield from read_text_file(file, file.relative_to(stdlib_root()).as_posix())
            else:
                bad = unreadable or (lambda path, error: None)
                yield from read_file(file, source.text_field, bad if source.unreadable == "skip" else None)
        except OrreryError as error:
            if source.unreadable == "error":
                raise
            if unreadable:
                unreadable(str(file), error)
        meter.done += file.stat().st_size


def read_text(path: str | Path) -> str:
    """The whole text of one plain text file, gzipped or not.

    Raises:
        OrreryError: no such file, not a plain text file, or not UTF-8.
    """
    files = list_files([str(path)])
    if len(files) != 1 or kind_of(files[0]) != "text":
        raise OrreryError(f"'{path}' is not one plain text file; give a .txt, .md or other text file")
    return "".join(part.text for part in read_text_file(files[0], str(path)))


def stdlib_root() -> Path:
    """The folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def stdlib_files() -> list[Path]:
    """The source files of the standard library without its tests, sorted by path.

    Raises:
        OrreryError: this Python was installed without its source.
    """
    root = stdlib_root()
    files = [file for file in _files_below(root, leave_out=NOT_LIBRARY) if file.suffix == ".py"]
    if not files:
        raise OrreryError(
            f"this Python has no source of its standard library in '{root}'; give your own text by `--text`"
        )
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def list_files(paths: tuple[str, ...] | list[str]) -> list[Path]:
    """The files that the paths name, each once: folders hold all readable files below them, in sorted order.

    Raises:
        OrreryError: no path given, no such path, a folder or pattern with nothing readable, or a suffix we cannot read.
    """
    if not paths:
        raise OrreryError("no text given; name at least one file, folder or pattern")
    found: dict[Path, Path] = {}
    for given in paths:
        for file in _expand(given):
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _expand(given: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        return _walk(path)
    if path.exists():
        if not path.is_file():
            raise OrreryError(f"'{given}' is not a regular file")
        kind_of(path)
        return [path]
    if has_magic(str(path)):
        matches = _matches(path)
        readable = [match for match in matches if match.is_file() and kind_of(match, strict=False)]
        if not readable:
            raise OrreryError(
                f"no readable file matches '{given}' ({len(matches)} matches; readable are {_suffixes()})"
            )
        return readable
    siblings = os.listdir(path.parent) if path.parent.is_dir() else []
    raise OrreryError(f"there is no file or folder '{given}'.{suggest(path.name, siblings)}")


def _matches(pattern: Path) -> list[Path]:
    """What a glob pattern matches, in sorted order; links to folders are not followed, hidden names must be named.

    (The function of the standard library follows links, in a folder that links to itself twice without end.)
    """
    hidden = any(part.startswith(".") for part in pattern.parts)
    fixed = list(itertools.takewhile(lambda part: not has_magic(part), pattern.parts))
    root, rest = Path(*fixed), "/".join(pattern.parts[len(fixed) :])
    rest = f"{rest}/*" if rest.endswith("**") else rest
    found = (match for match in root.glob(rest) if hidden or not _is_hidden(match.relative_to(root)))
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _walk(folder: Path) -> list[Path]:
    found = list(_files_below(folder))
    readable = [file for file in found if kind_of(file, strict=False)]
    if not readable:
        seen = ", ".join(sorted({file.suffix or file.name for file in found})[:5])
        what = f"only {seen}" if seen else "it is empty"
        raise OrreryError(f"the folder '{folder}' has no text to read ({what}); readable are {_suffixes()}")
    return readable


def _files_below(folder: Path, leave_out: Collection[str] = ()) -> Iterator[Path]:
    """Regular files in sorted order; hidden ones and those of folders named in `leave_out` are not looked at."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in leave_out)
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and file.is_file():
                yield file


def _suffixes() -> str:
    return ", ".join(READABLE)
