"""Checkpoints that are whole or not there, and that notice one flipped bit.

    checkpoints/step-00000123/        123 steps are done; the next is step 123
        model.safetensors  optimizer.safetensors  [ema.safetensors]
        state.json                    everything that is not a tensor
        manifest.json                 SHA-256 and size of each file

A checkpoint is a new folder: files written, fsynced, the folder fsynced, renamed into place, the parent fsynced. Which one is the
newest or the best is found by listing, never stored, so no pointer can be wrong. There is no pickle in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from orrery.kit import files
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.safetensors import check_safetensors_bytes
from orrery.kit.untrusted import inside, open_regular

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
PREFIX = "step-"
MAX_JSON = 16 << 20


class Damaged(OrreryError):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint in memory, verified: tensors by file ("model", "optimizer", ...) and name, and the JSON state."""

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def write_checkpoint(path: Path, *, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Write the folder `path` atomically; one already there is replaced in one step.

    Raises:
        OrreryError: the disk is full, the folder read-only ...; what was at `path` before is intact.
    """
    with files.atomic_folder(path) as folder:
        manifest: dict[str, dict[str, Any]] = {}

        def put(name: str, data: bytes) -> None:
            files.write_file(folder / name, data)
            manifest[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

        for name, group in tensors.items():
            put(
                f"{name}.safetensors",
                safetensors.torch.save({k: v.detach().contiguous() for k, v in group.items()}),
            )
        put(STATE, (json.dumps(state, indent=1) + "\n").encode())
        body = {"format": FORMAT, "files": manifest}
        files.write_file(folder / MANIFEST, json.dumps({**body, "sha256": digest(body)}, indent=1) + "\n")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and verify: the bytes that are hashed are the bytes that are used.

    Raises:
        Damaged: a file is missing, too many, or differs from the manifest; names the file.
        OrreryError: it was written by another version.
    """
    listed = _manifest(path)
    there = set(os.listdir(path))
    if there != {*listed, MANIFEST}:
        raise Damaged(
            f"'{path}' should hold {_some({*listed, MANIFEST})} but holds {_some(there)}; nothing else belongs there"
        )
    tensors: dict[str, dict[str, Tensor]] = {}
    state: dict[str, Any] = {}
    for name, record in listed.items():
        data = _read(path / name, size=record["bytes"])
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise Damaged(f"'{path / name}' is not what was written (its SHA-256 differs)")
        try:
            if name == STATE:
                state = _state(data, path)
            else:
                check_safetensors_bytes(data, str(path / name))
                tensors[Path(name).stem] = safetensors.torch.load(data)
        except (OrreryError, SafetensorError, ValueError) as error:
            raise Damaged(f"'{path / name}' cannot be read: {error}") from None
    return Checkpoint(path=path, tensors=tensors, state=state)


def _state(data: bytes, path: Path) -> dict[str, Any]:
    state = parse_json(data, nan=True)
    if not isinstance(state, dict):
        raise Damaged(f"'{path / STATE}' must hold a JSON object")
    return state


class Checkpoints:
    """The checkpoints of one run: save, find the newest good one or the best one, remove the superfluous.

    Args:
        folder: where they are; made at the first save.
        keep_last: how many of the newest to keep (at least 1).
        keep_best: how many of the best to keep beside them, by the state's "metric" (lower is better).
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, keep_best: int = 1) -> None:
        self.folder, self.keep_last, self.keep_best = folder, max(1, keep_last), keep_best
        self.found_damaged: list[str] = []
        """What `newest` had to pass over, one sentence each."""

    def path(self, step: int) -> Path:
        """Where the checkpoint after `step` steps is."""
        return self.folder / f"{PREFIX}{step:08d}"

    def steps(self) -> list[int]:
        """Steps of all checkpoints, ascending."""
        numbers = (item.name.removeprefix(PREFIX) for item in self.folder.glob(f"{PREFIX}*"))
        return sorted(int(name) for name in numbers if re.fullmatch("[0-9]{8}|[1-9][0-9]{8,17}", name))

    def save(self, step: int, *, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
        """Write one, then remove those that need not be kept."""
        write_checkpoint(self.path(step), tensors=tensors, state=state)
        self.prune()
        return self.path(step)

    def load(self, step: int) -> Checkpoint:
        """The checkpoint after `step` steps, verified."""
        return read_checkpoint(self.path(step))

    def newest(self) -> Checkpoint | None:
        """The newest that verifies; damaged ones are renamed to `damaged-...` and noted in `found_damaged`.

        Raises:
            OrreryError: there are checkpoints, and all are damaged; or the newest is of another version, which stays as it is.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.load(step)
            except Damaged as error:
                self.found_damaged.append(str(error))
                files.ops.rename(self.path(step), self._free_name(f"damaged-{step:08d}"))
        if steps:
            raise OrreryError(
                f"no checkpoint in '{self.folder}' is whole ({'; '.join(self.found_damaged)}); "
                "restore the folder from a copy, or remove it to start again"
            )
        return None

    def best_steps(self) -> list[int]:
        """Steps of the checkpoints that carry a metric, the best first (the earlier one where two are equal)."""
        metrics = {step: self._metric(step) for step in self.steps()}
        return sorted(
            (step for step, metric in metrics.items() if metric is not None), key=lambda s: (metrics[s], s)
        )

    def prune(self) -> None:
        """Remove what is neither among the newest nor among the best. A kill half-way leaves no partial checkpoint."""
        steps = self.steps()
        kept = {*steps[-self.keep_last :], *self.best_steps()[: self.keep_best]}
        for step in steps:
            if step not in kept:
                gone = self.folder / f".{PREFIX}{step:08d}.pruned.partial"
                with contextlib.suppress(OSError):  # one too many does no harm
                    files.ops.rename(self.path(step), gone)
                    files.ops.remove(gone)

    def _metric(self, step: int) -> float | None:
        try:
            metric = _state(_read(self.path(step) / STATE), self.path(step)).get("metric")
        except ValueError:
            return None
        return metric if type(metric) in (int, float) else None

    def _free_name(self, name: str) -> Path:
        taken = len(list(self.folder.glob(f"{name}*")))
        return self.folder / (f"{name}-{taken}" if taken else name)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the lock goes when the process does, however it ends.

    Raises:
        OrreryError: another process trains there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".training", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OrreryError(f"cannot write in '{folder}': {error.strerror}; choose another folder") from error
    try:
        _lock(file, folder)
        yield
    finally:
        os.close(file)


def _lock(file: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return  # a system without flock: two trainers in one folder are the person's own care
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OrreryError(
            f"another process is training in '{folder}'; wait for it or choose another folder"
        ) from None


def exact_float(value: float) -> str:
    """A float as hexadecimal text, which keeps every bit."""
    return value.hex() if math.isfinite(value) else str(value)


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    """The files of a checkpoint by name, each with its "bytes" and "sha256".

    Raises:
        Damaged: the manifest is missing or not what was written.
        OrreryError: the checkpoint was written by another version, which is no damage.
    """
    try:
        data = parse_json(_read(path / MANIFEST))
    except JsonFault as error:
        raise Damaged(f"'{path / MANIFEST}' cannot be read: {error}") from None
    if not isinstance(data, dict) or data.keys() != {"format", "files", "sha256"}:
        raise Damaged(f"'{path / MANIFEST}' is not what was written: it must hold format, files and sha256")
    body = {"format": data["format"], "files": data["files"]}
    if digest(body) != data["sha256"]:
        raise Damaged(f"'{path / MANIFEST}' is not what was written (its SHA-256 differs)")
    if data["format"] != FORMAT:
        raise OrreryError(
            f"'{path}' was written by another version of orrery (format {str(data['format'])[:20]}, here {FORMAT}); go on with "
            "that version, or choose another folder"
        )
    files = data["files"] if isinstance(data["files"], dict) else {}
    if STATE not in files:
        raise Damaged(f"'{path / MANIFEST}' lists no {STATE}")
    for name, record in files.items():
        if name != STATE and re.fullmatch(r"[\w-]+\.safetensors", name) is None:
            raise Damaged(
                f"'{path / MANIFEST}' lists {name[:80]!r}; a checkpoint holds safetensors and JSON alone"
            )
        size = record.get("bytes") if isinstance(record, dict) else None
        if type(size) is not int or size < 0 or not isinstance(record.get("sha256"), str):
            raise Damaged(f"'{path / MANIFEST}' has no size or no SHA-256 of '{name}'")
    return files


def _read(path: Path, *, size: int | None = None) -> bytes:
    """The bytes of a file of the checkpoint; of `size` when that is given, else of a manifest's or state's few."""
    try:
        with open_regular(inside(path.parent, path.name)) as handle:
            found = os.fstat(handle.fileno()).st_size
            if size is None and found > MAX_JSON:
                raise Damaged(f"'{path}' has {found:,} bytes, over the limit of {MAX_JSON:,}")
            if size is not None and found != size:
                raise Damaged(f"'{path}' is not what was written: it has {found:,} bytes, not {size:,}")
            return handle.read(found)
    except OSError as error:
        raise Damaged(f"'{path}' cannot be read: {error.strerror}") from None
    except OrreryError as error:
        raise error if isinstance(error, Damaged) else Damaged(str(error)) from None


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(name[:80] for name in listed[:8]) + (
        f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    )
