"""What came of teaching a model, for the report: its loss before and after, and its answers stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orrery.evaluate.compare import compare
from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult, read_results
from orrery.kit.artifact import Receipt
from orrery.kit.log import read_jsonl

if TYPE_CHECKING:
    from orrery.cli.pipeline.runner import Run

SHOWN = 6
"""Answers to show of each task."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One stage of tuning: what its receipt says, and its log."""

    name: str
    effects: Mapping[str, Any]
    metrics: list[dict[str, Any]]

    def heldout(self) -> list[tuple[str, float, float]]:
        """(set, nats a supervised token before, after)."""
        return [(name, loss["before"], loss["after"]) for name, loss in self.effects["heldout"].items()]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One stage of evaluation. model: the stage whose model answered."""

    name: str
    model: str
    results: Mapping[str, TaskResult]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A task's metric over the stages of a run.

    values: for each model, "0.560 [0.491, 0.627]". change: of the last against the first, question by question.
    """

    task: str
    metric: str
    n: int
    values: dict[str, str]
    change: str


def lessons(run: Run) -> list[Lesson]:
    """The stages that tuned a model, in order."""
    return [
        Lesson(name=name, effects=receipt.effects, metrics=read_jsonl(run.folders[name] / "metrics.jsonl"))
        for name, receipt in run.receipts.items()
        if taught(receipt)
    ]


def taught(receipt: Receipt) -> bool:
    """Whether a model was tuned, all of it or by an adapter."""
    return receipt.operation == "tune"


def scores(run: Run) -> list[Scored]:
    """The stages that had a model answer tasks, in order."""
    return [
        Scored(name=stage.name, model=stage.model, results=read_results(run.folders[stage.name]))
        for stage in run.recipe.stages
        if stage.kind == "eval" and stage.name in run.folders
    ]


def rows(found: list[Scored]) -> list[Row]:
    """Every task's first metric, model by model."""
    tasks = dict.fromkeys(task for one in found for task in one.results)
    made = []
    for task in tasks:
        answered = [one for one in found if task in one.results and one.results[task].metrics]
        if not answered:
            continue
        first, last = answered[0].results[task], answered[-1].results[task]
        metric = next(iter(first.metrics))
        values = {}
        for one in answered:
            estimate = one.results[task].metrics[metric]
            values[one.model] = f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        change = ""
        if first is not last:
            difference = compare(first, last).metrics[metric].difference
            change = f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        made.append(Row(task=task, metric=metric, n=last.n, values=values, change=change))
    return made


def answers(found: list[Scored]) -> list[tuple[str, list[Record]]]:
    """For each task, some questions and what the last model said."""
    last = {task: result for one in found for task, result in one.results.items()}
    shown = []
    for task, result in last.items():
        step = max(1, len(result.records) // SHOWN)
        picked = [record for record in result.records[::step] if record.answer and record.own]
        if picked:
            shown.append((task, picked[:SHOWN]))
    return shown


def right(record: Record) -> bool:
    """Whether its first score is a full one."""
    return next(iter(record.scores.values()), 0.0) == 1.0


def verdict(found: list[Scored]) -> str:
    """A sentence on what changed, task by task."""
    changed = [row for row in rows(found) if len(row.values) > 1]
    if not changed:
        return ""
    parts = []
    for row in changed:
        values = [value.split(" ")[0] for value in row.values.values()]
        parts.append(f"{row.task} from {values[0]} to {values[-1]}")
    return "Teaching it moved " + ", ".join(parts) + "."
