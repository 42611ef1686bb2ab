"""Rows that an earlier stage of the run wrote, named in a set of examples or of pairs by `stage: NAME` in place of its paths.

inputs()     {"model": base, **made_by(data=self.data)}          the roles "data 0", "data 1", ... of the sets that name a stage
make(...)    located("data", stage.data, inputs, EXAMPLES)       the same sets with the paths of what those stages wrote
receipt      parents_of(inputs)                                  what the folder descends from, beside its model
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orrery.kit.errors import OrreryError

S = TypeVar("S", bound=Any)

EXAMPLES, PAIRS = "examples.jsonl", "pairs.jsonl"
"""What a stage of the kind `sample` writes: conversations to learn, and preferences where its method has them."""


def made_by(**fields: Sequence[Any]) -> dict[str, str]:
    """Role -> the name of the earlier stage, of the sets (by the name of their field) that have one."""
    return {
        f"{field} {i}": cfg.stage for field, sets in fields.items() for i, cfg in enumerate(sets) if cfg.stage
    }


def located(field: str, sets: Sequence[S], inputs: Mapping[str, Path], file: str) -> tuple[S, ...]:
    """The sets of a field, where those that name a stage read `file` of its folder and go by its name.

    Raises:
        OrreryError: that stage wrote no such file.
    """
    return tuple(
        dataclasses.replace(
            cfg, stage="", paths=(str(_inside(inputs[f"{field} {i}"], file, cfg.stage)),), name=cfg.called
        )
        if cfg.stage
        else cfg
        for i, cfg in enumerate(sets)
    )


def parents_of(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """The inputs that are rows an earlier stage wrote."""
    return {role: folder for role, folder in inputs.items() if " " in role}


def _inside(folder: Path, file: str, stage: str) -> Path:
    path = (folder / file).resolve()
    if not path.is_file():
        raise OrreryError(
            f"the stage '{stage}' wrote no {file} (its folder: {folder}); name a stage of the kind 'sample' whose method makes that"
        )
    return path
