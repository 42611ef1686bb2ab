"""What the keys of a file may say before anything is computed from them, or made in their size."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.model.limits import RANGES

LARGEST = {int: 1 << 31, float: 1e15}
BLOCK = re.compile(r"blk\.(\d+)\.")


def checked(keys: Mapping[str, Any], numbers: Collection[str], where: str) -> dict[str, Any]:
    """The keys (without the architecture's name), every number finite, not negative, and of a size that can be meant.

    `numbers` are the keys that say one number. A list that says the same for every layer becomes what it says.

    Raises:
        OrreryError: names the key, what it says, and what it must be.
    """
    return {key: _checked(key, value, key in numbers, where) for key, value in keys.items()}


def _checked(key: str, value: Any, number: bool, where: str) -> Any:
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        value = value[0]
    if isinstance(value, bool | str | list):
        if number:
            what = "a list that differs by layer" if isinstance(value, list) else repr(value)[:60]
            raise OrreryError(
                f"'{where}': {key} is {what}, and must be one number; such a model is not known"
            )
        return value
    largest = LARGEST[type(value)]
    if not (math.isfinite(value) and 0 <= value <= largest):
        raise OrreryError(
            f"'{where}': {key} is {value}, and must be a number from 0 to {largest:g}; get the file again"
        )
    return value


def check_layers(count: Any, tensors: Collection[str], where: str) -> None:
    """Whether a file has as many layers as it says, so that no network is built that it could not fill.

    Raises:
        OrreryError: another number of layers.
    """
    low, high = RANGES["n_layers"]
    if type(count) is not int or not low <= count <= high:
        raise OrreryError(
            f"'{where}': block_count is {count}, and must be a whole number from {low} to {high}"
        )
    there = {int(found[1]) for name in tensors if (found := BLOCK.match(name))}
    if there != set(range(count)):
        raise OrreryError(
            f"'{where}': block_count is {count}, but there are tensors of {len(there)} layers; get the file again"
        )


def check_head_size(hf: Mapping[str, Any], keys: Mapping[str, Any], where: str) -> None:
    """Whether values are as wide as keys, and rotary positions turn whole heads.

    Raises:
        OrreryError: heads that we would compute otherwise than the file means.
    """
    size = hf["head_dim"] if "head_dim" in hf else hf["hidden_size"] // hf["num_attention_heads"]
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.get(key, size) != size:
            raise OrreryError(
                f"'{where}': {key} is {keys[key]}, but heads are {size} wide; such a model is not known"
            )
