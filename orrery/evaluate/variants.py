"""Prompts compared: one task asked in several ways, question by question.

    # variants.yaml                      orrery eval MODEL --tasks gsm8k --prompts variants.yaml
    version: 2
    prompts:
      plain: {prompt: "{{ question }}"}
      steps: {prompt: "{{ question }}\\nThink step by step.", max_tokens: 512}

A variant changes settings of the task that belong to asking: what is asked stays the same, so answers pair up. The first variant is
the one that the others are compared with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orrery.evaluate.task import Task
from orrery.kit.config import read_yaml, resolve, to_dict
from orrery.kit.errors import OrreryError, suggest

MAY_CHANGE = (
    "prompt", "follow_ups", "target", "choice", "preamble", "system", "shots", "shots_by", "shots_from", "fixed_shots", "delimiter",
    "chat", "stop", "max_tokens", "temperature", "samples",
)  # fmt: skip


def prompt_variants(task: Task, path: Path) -> dict[str, Task]:
    """The task in each way that the file names, by the way's name; tasks are named task@way.

    Raises:
        OrreryError: not such a file, or a way that changes what is asked.
    """
    told = read_yaml(path)
    ways = told.get("prompts")
    if not isinstance(ways, dict) or not ways or set(told) - {"version", "prompts"}:
        raise OrreryError(
            f"'{path}' must have 'version' and 'prompts', a mapping of names to changed settings"
        )
    return {
        str(name): _changed(task, str(name), change, told.get("version", 1), path)
        for name, change in ways.items()
    }


def _changed(task: Task, name: str, change: Any, version: Any, path: Path) -> Task:
    where = f"'{path}', prompts.{name}"
    if not isinstance(change, dict):
        raise OrreryError(f"{where}: a way of asking is a mapping of settings, not {type(change).__name__}")
    if wrong := sorted(set(change) - set(MAY_CHANGE)):
        raise OrreryError(
            f"{where}: '{wrong[0]}' does not belong to how a task is asked.{suggest(wrong[0], MAY_CHANGE)}"
        )
    named = {"name": f"{task.name}@{name}", "version": f"{task.version}.{version}"}
    return resolve(Task, to_dict(task) | change | named, where=where)
