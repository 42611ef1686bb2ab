"""A task: an instruction, with inputs and outputs that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows


@dataclass(frozen=True)
class Instance:
    """One case of a task; the input is empty where the instruction says everything."""

    input: str
    output: str


@dataclass(frozen=True)
class Task:
    """classification: whether its outputs are a few labels."""

    instruction: str
    instances: tuple[Instance, ...] = ()
    classification: bool = False


def read_tasks(path: Path) -> list[Task]:
    """Tasks of a JSON-lines file: `instruction`, `instances` (of `input` and `output`) or the two themselves, `is_classification`.

    Raises:
        OrreryError: a file that cannot be read, or a row that is no task.
    """
    return [_task(row, f"'{path}' row {number}") for number, row in enumerate(read_rows(path), start=1)]


def _task(row: Mapping[str, Any], where: str) -> Task:
    given = row.get("instances", [row] if "output" in row else [])
    try:
        instances = tuple(Instance(str(one.get("input") or ""), str(one["output"])) for one in given)
        return Task(
            " ".join(str(row["instruction"]).split()), instances, bool(row.get("is_classification", False))
        )
    except (KeyError, TypeError, AttributeError):
        raise OrreryError(
            f"{where} is no task; it needs an instruction, and instances with input and output"
        ) from None
