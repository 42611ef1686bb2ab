"""How results of evaluation are shown: tables of numbers with their intervals, and what to think of them in a line below."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from orrery.evaluate.compare import TaskDifference
from orrery.evaluate.report import remarks
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


def print_differences(differences: Sequence[TaskDifference], *, names: tuple[str, str]) -> None:
    """A row a metric: both means, the paired difference with its interval, and on how many questions only one is right."""
    console = Console()
    table = Table(title=f"B: {names[1]}\nA: {names[0]}", title_justify="left", show_lines=True)
    table.add_column("task\nmetric, n", no_wrap=True)
    for column in ("A\nB", "B - A\n95% interval", "p bootstrap\np McNemar", "only A\nonly B"):
        table.add_column(column, justify="right", no_wrap=True)
    for difference in differences:
        for name, metric in difference.metrics.items():
            d, m = metric.difference, metric.mcnemar
            table.add_row(
                f"{difference.task}\n{name}, {difference.n:,}", f"{_short(metric.a)}\n{_short(metric.b)}",
                f"{d.mean:+.4f}\n[{d.low:+.4f}, {d.high:+.4f}]",
                _p(metric.p_value) + ("" if m is None else f"\n{_p(m.p)}"),
                "" if m is None else f"{m.b}\n{m.c}",
            )  # fmt: skip
    left_out = sum(difference.left_out for difference in differences)
    table.caption = "only A, only B: questions that one of them alone has right" + (
        f"; {left_out:,} without a score in both are left out" if left_out else ""
    )
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
