"""An open GGUF model: metadata, a directory of tensors, and their bytes, memory-mapped.

    with GgufFile.open("model.gguf") as model:
        model.metadata["general.architecture"], model.tensors["token_embd.weight"].shape
        rows = model.raw("token_embd.weight")            # uint8 (rows, bytes per row), no copy

A model split over files (`name-00001-of-00003.gguf` ..., keys `split.*`) opens by the name of any of them.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.gguf.header import GgufTensor, Header, read_header
from orrery.kit.gguf.values import DAMAGED, shown

_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


class GgufFile:
    """A GGUF model, mapped for reading. Make one by `GgufFile.open`.

    `metadata`: numbers, bools and strings as Python's; arrays of numbers as numpy arrays; arrays of strings as lists.
    `kinds`: the exact type of each (`uint32`, `array[string]`), for a file that is to be written the same.
    `tensors`: by name, in the order of the files. `paths`: the file, or all files of a split model.
    """

    def __init__(
        self, paths: list[Path], maps: list[mmap.mmap], header: Header, tensors: dict[str, GgufTensor]
    ) -> None:
        self.paths, self._maps = tuple(paths), maps
        self.metadata: dict[str, Any] = header.metadata
        self.kinds: dict[str, str] = header.kinds
        self.tensors = tensors

    @classmethod
    def open(cls, path: str | Path, *, max_array_depth: int = 1) -> GgufFile:
        """Open a model; nothing of the data is read yet.

        Args:
            path: a .gguf file, or any one file of a split model; its siblings must be in the same folder.
            max_array_depth: how deep metadata arrays may be nested. The default, 1, is what llama.cpp reads.

        Raises:
            OrreryError: the file or a sibling is missing, damaged, of an unknown version, or breaks a rule.
        """
        path = Path(path)
        data, header = _map(path, max_array_depth)
        paths, maps, headers = [path], [data], [header]
        if (count := _split(path, header, "split.count", 1)) > 1:
            paths = _siblings(path, count)
            opened = [(data, header) if p == path else _map(p, max_array_depth) for p in paths]
            maps, headers = [m for m, _ in opened], [h for _, h in opened]
            _check_split(paths, headers, count)
        tensors: dict[str, GgufTensor] = {}
        for number, (part, found) in enumerate(zip(paths, headers, strict=True)):
            for name, tensor in found.tensors.items():
                if name in tensors:
                    raise OrreryError(
                        f"'{part}' cannot be read as GGUF: tensor {shown(name)} is also in "
                        f"'{paths[tensors[name].file]}'; {DAMAGED}"
                    )
                tensors[name] = replace(tensor, file=number)
        return cls(paths, maps, headers[0], tensors)

    def raw(self, name: str) -> np.ndarray:
        """The bytes of a tensor, as they lie in the file: uint8, shape (*shape[:-1], bytes per row), read-only, no copy."""
        if name not in self.tensors:
            raise OrreryError(f"'{self.paths[0]}' has no tensor {shown(name)}.{suggest(name, self.tensors)}")
        if not self._maps:
            raise OrreryError(f"'{self.paths[0]}' is closed; open it again to read {shown(name)}")
        tensor = self.tensors[name]
        flat = np.frombuffer(self._maps[tensor.file], np.uint8, tensor.nbytes, tensor.offset)
        return flat.reshape(*tensor.shape[:-1], -1)

    def forget(self, name: str, first: int | None = None) -> None:
        """Let go of the memory that a tensor's bytes (or the `first` of them) take while they are mapped; they are read again when
        they are asked for."""
        tensor = self.tensors[name]
        if self._maps and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            start = (
                -(-tensor.offset // mmap.PAGESIZE) * mmap.PAGESIZE
            )  # whole pages; the rest is a neighbour's too
            if (length := tensor.offset + (tensor.nbytes if first is None else first) - start) > 0:
                self._maps[tensor.file].madvise(mmap.MADV_DONTNEED, start, length)

    def release(self) -> None:
        """Let go of the memory that all mapped pages take, those of the metadata too; what is asked for is read again."""
        for data in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                data.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the files. Arrays already taken by `raw` stay good: a mapping ends with the last of them."""
        self._maps = []

    def __enter__(self) -> GgufFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _map(path: Path, max_array_depth: int) -> tuple[mmap.mmap, Header]:
    """Map one file and read its header."""
    try:
        if not path.is_file():  # a pipe or a device would hang or never end
            what = (
                "is a folder"
                if path.is_dir()
                else "is not a regular file"
                if path.exists()
                else "does not exist"
            )
            raise OrreryError(f"'{path}' {what}; name a .gguf file")
        with open(path, "rb") as handle:
            size = handle.seek(0, 2)
            if size < 24:
                raise OrreryError(
                    f"'{path}' cannot be read as GGUF: at byte {size}: the file ends inside the header of 24 bytes "
                    f"(truncated, or not GGUF); {DAMAGED}"
                )
            data = mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise OrreryError(
            f"'{path}' cannot be opened: {error.strerror or error}; check the path, its permissions and the free memory"
        ) from error
    return data, read_header(path, data, max_array_depth=max_array_depth)


def _split(path: Path, header: Header, key: str, default: int) -> int:
    """A number of the `split.*` keys."""
    value = header.metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise OrreryError(f"'{path}' cannot be read as GGUF: key '{key}' is not a whole number; {DAMAGED}")
    return value


def _siblings(path: Path, count: int) -> list[Path]:
    """All files of a split model in order. Their names come from the given one, so they cannot leave its folder;
    a link is followed only to where the given file itself lies (as in the hub's cache)."""
    match = _PART.fullmatch(path.name)
    if match is None or int(match["count"]) != count:
        raise OrreryError(
            f"'{path}' is a part of {count} (key 'split.count') but is not named like one; "
            f"name the parts NAME-00001-of-{count:05d}.gguf and so on, all in one folder"
        )
    folders = {path.parent.resolve(), path.resolve().parent}
    paths = []
    for number in range(1, count + 1):
        part = path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf")
        if not part.exists():
            raise OrreryError(
                f"'{part}' is missing: the model is split over {count} files; fetch it into the same folder"
            )
        if part.resolve().parent not in folders:
            raise OrreryError(
                f"'{part}' is a link to outside its folder; put the file itself beside its other parts"
            )
        paths.append(part)
    return paths


def _check_split(paths: list[Path], headers: list[Header], count: int) -> None:
    for number, (part, header) in enumerate(zip(paths, headers, strict=True)):
        found = _split(part, header, "split.count", 0), _split(part, header, "split.no", -1 % (1 << 16))
        if found != (count, number):
            raise OrreryError(
                f"'{part}' says that it is part {found[1]} of {found[0]} (keys 'split.no', 'split.count'), but by its name it "
                f"is part {number} of {count}, counted from 0; fetch the set again"
            )
    have = sum(len(header.tensors) for header in headers)
    if (expected := _split(paths[0], headers[0], "split.tensors.count", have)) != have:
        raise OrreryError(
            f"'{paths[0]}' announces {expected} tensors (key 'split.tensors.count') and its {count} files hold {have}; "
            f"fetch the set again"
        )
