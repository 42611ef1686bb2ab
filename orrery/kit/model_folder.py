"""A model folder that somebody else made: its config and its weights, checked before anything is built from them.

    hf = read_model_config(folder / "config.json")          # CF cases: ranges, code, paths, spelling
    with open_weights(folder) as weights:                    # single file or index with shards, all headers checked
        weights.tensors                                      # name -> TensorEntry
        weights.raw(name)                                    # (nbytes,) uint8, read, not mapped

The folder's Python files are never looked at: nothing here imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orrery.kit.errors import OrreryError
from orrery.kit.foreign_config import check_config, check_generation
from orrery.kit.json import read_json, read_object
from orrery.kit.safetensors import SafetensorsFile, TensorEntry, open_safetensors
from orrery.kit.untrusted import FOREIGN, inside, plain_name

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
OWN_ADAPTER = "orrery_adapter.json"
"""Of adapters that peft has no kind for."""
MAX_SHARDS = 10_000
MAX_INDEX_BYTES = 64 << 20
TOTAL_OFF_BY = 4.0
"""How many times too large or small an index may give the total size; published ones are wrong by 2 after a conversion."""


def read_model_config(path: Path) -> dict[str, Any]:
    """The content of a config.json, checked.

    Raises:
        OrreryError: no such file (says what the folder holds instead), not JSON within limits, or out of range.
    """
    folder = path.parent
    if not path.is_file():
        refuse_folder(folder)
    return check_config(read_json(inside(folder, path.name), what="a config"), str(path))


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The content of the folder's generation_config.json, checked; empty when there is none.

    Raises:
        OrreryError: it is damaged or out of range.
    """
    path = folder / GENERATION
    if not path.is_symlink() and not path.exists():
        return {}
    return check_generation(read_json(inside(folder, GENERATION), what="a generation config"), str(path))


def refuse_folder(folder: Path) -> None:
    """Say why a folder without config.json is no model.

    Raises:
        OrreryError: if there is no config.json, always.
    """
    try:
        names = {item.name for item in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        raise OrreryError(f"'{folder}' is not a folder; give the folder of a model") from None
    except OSError as error:
        raise OrreryError(f"cannot read '{folder}': {error.strerror}") from None
    if names & {ADAPTER, OWN_ADAPTER} and CONFIG not in names:
        raise OrreryError(
            f"'{folder}' holds an adapter, not a model; serve it beside its model (--adapter NAME=PATH)"
        )
    if CONFIG not in names:
        raise OrreryError(f"'{folder}' has no {CONFIG}; give the folder of a model")


class Weights:
    """The open weight files of a folder. `tensors` holds every entry, `files` the file of each."""

    def __init__(self, files: dict[str, SafetensorsFile]) -> None:
        self.files = files
        self.tensors: dict[str, TensorEntry] = {name: file.tensors[name] for name, file in files.items()}

    def raw(self, name: str) -> npt.NDArray[np.uint8]:
        """The bytes of a tensor, (nbytes,) uint8.

        Raises:
            OrreryError: the file was changed since it was opened, or the tensor's bytes are not of its type.
        """
        return self.files[name].raw(name)


@contextmanager
def open_weights(folder: Path) -> Iterator[Weights]:
    """Open model.safetensors, or every shard that the index names, and check that headers and index agree.

    Raises:
        OrreryError: weights are missing, damaged, of a format that is not read, or elsewhere than in the folder.
    """
    with ExitStack() as stack:

        def opened(name: str) -> SafetensorsFile:
            return stack.enter_context(open_safetensors(inside(folder, name)))

        if (folder / INDEX).is_symlink() or (folder / INDEX).exists():
            weight_map, total = _read_index(folder)
            shards = {name: opened(name) for name in sorted(set(weight_map.values()))}
            _agree(folder, weight_map, shards, total)
            yield Weights({name: shards[shard] for name, shard in weight_map.items()})
        else:
            if not (folder / WEIGHTS).is_symlink() and not (folder / WEIGHTS).exists():
                _refuse_missing(folder)
            file = opened(WEIGHTS)
            yield Weights(dict.fromkeys(file.tensors, file))


def read_index(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file it is in, by the folder's index; the files' headers are not read.

    Raises:
        OrreryError: the index is damaged, or names anything but safetensors files of this folder.
    """
    weight_map, _ = _read_index(folder)
    return {name: inside(folder, shard) for name, shard in weight_map.items()}


def _read_index(folder: Path) -> tuple[dict[str, str], int | None]:
    path = inside(folder, INDEX)
    index = read_object(path, max_bytes=MAX_INDEX_BYTES, max_depth=8, what="an index of weights")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise OrreryError(f"'{path}' is damaged: 'weight_map' must map tensors to files; get the model again")
    names: set[Any] = set()
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise OrreryError(f"'{path}': the file of tensor {tensor[:80]!r} is {str(name)[:40]!r}, no name")
        names.add(name)
        if len(names) > MAX_SHARDS:
            raise OrreryError(f"'{path}' names more than {MAX_SHARDS:,} files; no model has so many")
    for name in sorted(names):
        plain_name(name, f"'{path}', weight_map")
        if not name.endswith(".safetensors"):
            why = FOREIGN.get(Path(name).suffix.lower(), "only safetensors files are read")
            raise OrreryError(f"'{path}' names the file '{name}': {why}")
    missing = [
        name for name in sorted(names) if not (folder / name).is_symlink() and not (folder / name).exists()
    ]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise OrreryError(
            f"'{folder}' lacks {', '.join(missing[:5])}{more}, which '{INDEX}' names; get the missing files"
        )
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if total is not None and type(total) not in (int, float):
        raise OrreryError(
            f"'{path}': total_size {str(total)[:40]!r} is no number of bytes; get the model again"
        )
    return weight_map, total


def _agree(
    folder: Path, weight_map: dict[str, str], shards: dict[str, SafetensorsFile], total: int | None
) -> None:
    """The tensors in the shards are those the index names, each in one shard."""
    path = folder / INDEX
    owner: dict[str, str] = {}
    for shard, file in shards.items():
        for name in file.tensors:
            if name in owner:
                raise OrreryError(
                    f"'{folder}': tensor {name!r} is in both '{owner[name]}' and '{shard}'; get the model again"
                )
            owner[name] = shard
    for name, shard in weight_map.items():
        if owner.get(name) != shard:
            there = f"it is in '{owner[name]}'" if name in owner else "no shard has it"
            raise OrreryError(
                f"'{path}' says that tensor {name!r} is in '{shard}', but {there}; get the model again"
            )
    extra = next((name for name in owner if name not in weight_map), None)
    if extra is not None:
        raise OrreryError(
            f"'{folder / owner[extra]}' holds tensor {extra!r}, which '{INDEX}' does not name; get the model again"
        )
    size = sum(entry.nbytes for file in shards.values() for entry in file.tensors.values())
    if total is not None and not size / TOTAL_OFF_BY <= total <= size * TOTAL_OFF_BY:
        raise OrreryError(
            f"'{path}' gives a total size of {total:,} bytes, but its tensors take {size:,}; get the model again"
        )


def _refuse_missing(folder: Path) -> None:
    try:
        names = sorted(item.name for item in folder.iterdir())
    except OSError as error:
        raise OrreryError(f"cannot read '{folder}': {error.strerror}") from None
    foreign = next((name for name in names if Path(name).suffix.lower() in FOREIGN), None)
    if foreign is not None:
        raise OrreryError(
            f"'{folder}' has no {WEIGHTS}, only '{foreign}': {FOREIGN[Path(foreign).suffix.lower()]}"
        )
    raise OrreryError(f"'{folder}' has no {WEIGHTS}: the weights are missing")
