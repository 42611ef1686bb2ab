"""Published rows turned into the fields a task file asks with: `find(name)(row)` gives the row, or why it cannot be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orrery.evaluate.scorers.base import Unscored
from orrery.evaluate.shapes import choices, tools, worked
from orrery.kit.errors import OrreryError, suggest

Shape = Callable[[Mapping[str, Any]], dict[str, Any] | Unscored]
SHAPES: dict[str, Shape] = {
    "aqua": choices.aqua,
    "bfcl": tools.bfcl,
    "gpqa": choices.gpqa,
    "lettered": choices.lettered,
    "math": worked.math,
    "mmmu": choices.mmmu,
    "truthfulqa_mc1": choices.truthfulqa_mc1,
    "truthfulqa_mc2": choices.truthfulqa_mc2,
}


def find(name: str) -> Shape:
    """The shape of that name; raises OrreryError with the nearest name."""
    shape = SHAPES.get(name)
    if shape is None:
        raise OrreryError(
            f"there is no row shape '{name}'; the shapes are {', '.join(sorted(SHAPES))}.{suggest(name, SHAPES)}"
        )
    return shape
