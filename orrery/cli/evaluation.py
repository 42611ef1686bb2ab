"""How results of evaluation are shown: tables of numbers with their intervals, and what to think of them in a line below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orrery.evaluate.compare import TaskDifference
from orrery.evaluate.results import TaskResult
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.task import Files, Task


def print_results(
    results: Sequence[TaskResult], differences: Sequence[TaskDifference], folder: Path | None
) -> None:
    """A row a metric; what could not be scored, was cut, or was seen in training is said below."""
    console = Console()
    table = Table(title="results", title_justify="left")
    for column in ("task", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("score", "95% interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        for name, metric, estimate in _lines(result):
            table.add_row(name, metric, *_numbers(estimate), f"{estimate.n:,}")
        table.add_section()
    console.print(table)
    told: dict[str, list[str]] = {}
    for result in results:
        for line in remarks(result):
            told.setdefault(line, []).append(result.task)
    for line, tasks in told.items():
        console.print(f"{', '.join(tasks)}: {line}", markup=False, soft_wrap=True)
    if differences:
        print_differences(differences, names=("the first way of asking", "the others"))
    if folder is not None:
        console.print(
            f"Every answer is in {folder}. Compare with another model: orrery eval diff {folder} OTHER",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def _lines(result: TaskResult) -> Iterator[tuple[str, str, Estimate]]:
    yield from ((result.task, name, estimate) for name, estimate in result.metrics.items())
    for name, estimate in result.macro.items():
        yield result.task, f"{name}, macro of {len(result.groups)}", estimate


def remarks(result: TaskResult) -> list[str]:
    """What a reader of the numbers must know, in sentences."""
    told = []
    if result.unscored:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in result.unscored.items())
        told.append(
            f"{sum(result.unscored.values())} of {len(result.records)} questions have no score: {reasons}"
        )
    if result.truncated:
        told.append(f"{result.truncated} prompts were longer than the context and lost their beginning")
    seen = result.contamination
    if seen.status == "found":
        without = result.without(frozenset(seen.ids)).metrics
        rest = ", ".join(f"{name} {estimate.mean:.4g}" for name, estimate in without.items())
        told.append(
            f"{len(seen.ids)} of {seen.checked} questions stand in the training data; without them: {rest or 'nothing is left'}"
        )
    elif seen.status == "clean":
        told.append(f"none of {seen.checked} questions was found in {seen.texts:,} training texts")
    else:
        told.append(f"whether the questions were in the training data is not known: {seen.reason}")
    return told


def print_differences(differences: Sequence[TaskDifference], *, names: tuple[str, str]) -> None:
    """A row a metric: both means, the paired difference with its interval, and who is right where they differ."""
    console = Console()
    table = Table("task", "metric", title=f"{names[1]} less {names[0]}", title_justify="left")
    for column in (
        "A",
        "B",
        "B - A",
        "95% interval",
        "p (bootstrap)",
        "only A | only B right",
        "p (McNemar)",
        "n",
    ):
        table.add_column(column, justify="right")
    for difference in differences:
        for name, metric in difference.metrics.items():
            d, m = metric.difference, metric.mcnemar
            table.add_row(
                difference.task, name, _short(metric.a), _short(metric.b), f"{d.mean:+.4f}",
                f"[{d.low:+.4f}, {d.high:+.4f}]", _p(metric.p_value), "" if m is None else f"{m.b} | {m.c}",
                "" if m is None else _p(m.p), f"{difference.n:,}",
            )  # fmt: skip
        if difference.left_out:
            table.caption = f"{difference.left_out:,} questions without a score in both are left out"
    console.print(table)


def print_tasks(tasks: Sequence[Task]) -> None:
    """What there is to ask."""
    table = Table("task", "kind", "what it asks", "data")
    for task in tasks:
        data = task.data
        paths = data.path if isinstance(data, Files) else f"made by '{data.generator}'"
        table.add_row(task.name, task.kind, task.about, paths if isinstance(paths, str) else ", ".join(paths))
    Console().print(table)


def print_metrics(found: Mapping[str, Estimate], *, lines: int) -> None:
    """A row a metric."""
    table = Table("metric", title=f"{lines:,} lines", title_justify="left")
    for column in ("score", "95% interval"):
        table.add_column(column, justify="right")
    for name, estimate in found.items():
        table.add_row(name, *_numbers(estimate))
    Console().print(table)


def _numbers(estimate: Estimate) -> tuple[str, str]:
    error = "" if math.isnan(estimate.standard_error) else f" ± {_short(estimate.standard_error)}"
    interval = "" if math.isnan(estimate.low) else f"[{_short(estimate.low)}, {_short(estimate.high)}]"
    return _short(estimate.mean) + error, interval


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.4g}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
