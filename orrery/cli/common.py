"""What verbs share: argument help, JSON output, and the live progress display."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODEL = "A model folder, a run folder, a .gguf file, a hub id in the local cache, or gemma-3-270m."
OVERRIDES = "Settings to change, as dotted.key=value (for example stages.train.minutes=10)."


def print_json(value: Any) -> None:
    """One JSON document on stdout, nothing else."""
    from orrery.kit.config import to_dict

    print(json.dumps(to_dict(value), indent=2))


def sampling_settings(lm: Any, wanted: dict[str, Any], *, draws: bool = True) -> dict[str, Any]:
    """How to sample: what the user asks for, else what the model's makers advise, else a little below their own spread.

    draws: False for beam search and contrastive search, which have nothing to draw.
    """
    asked = {name: value for name, value in wanted.items() if value is not None}
    if not draws:
        return {"temperature": 0.0} | asked
    return {"temperature": 0.8, "top_p": 0.95} | lm.defaults | asked


class Live:
    """Progress as a person sees it: a bar with fields on a terminal, a line every few seconds elsewhere."""

    def __init__(self, title: str, every_s: float = 10.0) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from orrery.kit.log import console

        self.title, self.every_s = title, every_s
        self.console = console
        self.tty = console.is_terminal
        self.started = self.printed = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]{task.description:<11}"),
            BarColumn(bar_width=26),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task(title, total=None, shown="")

    def update(self, done: float, total: float | None, **fields: Any) -> None:
        shown = "  ".join(
            f"{_label(name)} {_number(value)}" for name, value in fields.items() if value is not None
        )
        if self.tty:
            self.bar.update(self.task, completed=done, total=total, shown=shown)
        elif time.monotonic() - self.printed > self.every_s:
            self.printed = time.monotonic()
            elapsed = self.printed - self.started
            left = f", {_duration(elapsed * (total - done) / done)} left" if total and done else ""
            part = f"{done / total:4.0%}" if total else f"{done:,.0f}"
            self.console.print(
                f"{self.title:<11} {part}  {shown}  {_duration(elapsed)}{left}",
                highlight=False,
                soft_wrap=True,
            )


@contextmanager
def live(title: str) -> Iterator[Live]:
    """Show progress while the block runs."""
    shown = Live(title)
    if shown.tty:
        with shown.bar:
            yield shown
    else:
        yield shown


def stdout_is_terminal() -> bool:
    """Whether a person reads stdout (rather than a pipe or a file)."""
    return sys.stdout.isatty()


def _label(name: str) -> str:
    return {"tokens_per_s": "tok/s", "mb_per_s": "MB/s"}.get(name, name.replace("_", " "))


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
