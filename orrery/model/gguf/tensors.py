"""Tensors of a GGUF file: their bytes as they lie there, and the numbers these stand for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orrery.kit.gguf import GgufFile
from orrery.model.quant import dequantize


@dataclass(frozen=True)
class Contents:
    """What decides how a model is built: of a file that is there, or of one that is about to be written.

    where: the file's name for messages; shapes: of its tensors; numbers: the float32 numbers of one.
    """

    where: str
    metadata: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    numbers: Callable[[str], Tensor]


def contents_of(file: GgufFile) -> Contents:
    """The contents of an open file."""
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    return Contents(str(file.paths[0]), file.metadata, shapes, lambda name: numbers_of(file, name))


def raw_tensor(file: GgufFile, name: str) -> Tensor:
    """The bytes of a tensor, (..., bytes per row), mapped from the file: not to be written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the array is read-only
        return torch.from_numpy(file.raw(name))


class MappedRows:
    """Rows of bytes (N, bytes of a row) mapped from a file, for whoever reads them once from first to last: a slice lets go of
    the memory of all rows before it. Otherwise as the tensor."""

    def __init__(self, file: GgufFile, name: str) -> None:
        self._file, self._name, self._tensor = file, name, raw_tensor(file, name)

    def __getitem__(self, rows: slice) -> Tensor:
        self._file.forget(self._name, (rows.start or 0) * self._tensor.shape[-1])
        return self._tensor[rows]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tensor, name)


def numbers_of(file: GgufFile, name: str) -> Tensor:
    """A tensor as float32, in its own shape."""
    tensor = file.tensors[name]
    return dequantize(raw_tensor(file, name), tensor.type).reshape(tensor.shape)


def plain(value: Any) -> Any:
    """A metadata value as a config.json holds it: float32 as the decimal it was meant to be, arrays as lists."""
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, float):
        return float(f"{value:.7g}")
    return value
