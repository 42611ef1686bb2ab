"""What came of teaching a model, for the report: its loss before and after, its practice, and its answers stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orrery.cli.pipeline.stages import one_line
from orrery.evaluate.compare import compare
from orrery.evaluate.record import Record
from orrery.evaluate.results import TaskResult, read_results
from orrery.kit.artifact import Receipt
from orrery.kit.log import read_jsonl

if TYPE_CHECKING:
    from orrery.cli.pipeline.runner import Run

SHOWN = 6
"""Answers to show of each task."""

NOTE = "Intervals are of 95%; the change is of the last model against the first, question by question"


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
class Practice:
    """One stage of reinforcement learning: what its receipt says, and its log."""

    name: str
    effects: Mapping[str, Any]
    metrics: list[dict[str, Any]]

    def heldout(self) -> list[tuple[float, float]]:
        """(round, share of the held-out problems answered rightly), from before the first round on."""
        start = [(0.0, row["heldout_start"]) for row in self.metrics if "heldout_start" in row]
        return start + [(row["step"] + 1.0, row["heldout"]) for row in self.metrics if "heldout" in row]

    def told(self) -> str:
        """A line for the table of numbers."""
        effects, accuracy = self.effects, self.effects["accuracy"]
        gained = (
            f"; {accuracy['before']:.3f} -> {accuracy['after']:.3f} of {accuracy['problems']} held-out problems right"
            if accuracy["after"] is not None
            else ""
        )
        return (
            f"{effects['steps']:,} rounds, {effects['problems']['drawn']:,} problems, {effects['sampled']:,} tokens written in "
            f"{effects['seconds'] / 60:.1f} minutes{gained}"
        )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One stage of evaluation. model: the stage whose model answered."""

    name: str
    model: str
    results: Mapping[str, TaskResult]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A task's metric over the stages of a run.

    Attributes:
        means: of each model. values: the same with intervals, "0.560 [0.491, 0.627]".
        change: of the last against the first, question by question. last: of the last against the one before, where there are three or more.
    """

    task: str
    metric: str
    n: int
    means: dict[str, float]
    values: dict[str, str]
    change: str
    last: str


def lessons(run: Run) -> list[Lesson]:
    """The stages that tuned a model, in order."""
    return [
        Lesson(name=name, effects=receipt.effects, metrics=read_jsonl(run.folders[name] / "metrics.jsonl"))
        for name, receipt in run.receipts.items()
        if taught(receipt)
    ]


def practices(run: Run) -> list[Practice]:
    """The stages in which a model practised, in order."""
    return [
        Practice(name=name, effects=receipt.effects, metrics=read_jsonl(run.folders[name] / "metrics.jsonl"))
        for name, receipt in run.receipts.items()
        if receipt.operation == "reinforce"
    ]


def taught(receipt: Receipt) -> bool:
    """Whether a model was taught by examples, all of it or by an adapter."""
    return receipt.operation in ("tune", "distill")


def others(run: Run) -> list[tuple[str, str]]:
    """(stage, what it did in a line) of those that learned from preferences, judge, or made rows to learn from."""
    return [
        (name, one_line(receipt))
        for name, receipt in run.receipts.items()
        if receipt.operation == "prefer" or receipt.kind in ("reward", "examples")
    ]


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
        results = [one.results[task] for one in answered]
        metric = next(iter(results[0].metrics))
        estimates = {one.model: one.results[task].metrics[metric] for one in answered}
        made.append(
            Row(
                task=task,
                metric=metric,
                n=results[-1].n,
                means={model: found.mean for model, found in estimates.items()},
                values={
                    model: f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"
                    for model, found in estimates.items()
                },
                change=_change(results[0], results[-1], metric) if len(results) > 1 else "",
                last=_change(results[-2], results[-1], metric) if len(results) > 2 else "",
            )
        )
    return made


def _change(one: TaskResult, other: TaskResult, metric: str) -> str:
    """The difference with its interval."""
    difference = compare(one, other).metrics[metric].difference
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def table(found: list[Scored]) -> list[list[str]]:
    """The rows of `rows` as cells, a heading first."""
    made = rows(found)
    models = list(dict.fromkeys(one.model for one in found))
    three = any(row.last for row in made)
    head = [
        "task",
        "metric",
        "questions",
        *models,
        "change",
        *([f"{models[-1]} against {models[-2]}"] if three else []),
    ]
    cells = [
        [row.task, row.metric, str(row.n), *(row.values.get(model, "") for model in models), row.change, *([row.last] if three else [])]
        for row in made
    ]  # fmt: skip
    return [head, *cells]


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
        first, *between, last = [f"{mean:.3f}" for mean in row.means.values()]
        parts.append(f"{row.task} from {first} {''.join(f'over {mean} ' for mean in between)}to {last}")
    return "Teaching it moved " + ", ".join(parts) + "."
