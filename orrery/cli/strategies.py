"""Test-time strategies on the command line: `--strategy`, `orrery eval strategies`, and the table of what each one cost and brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orrery.cli.common import print_json

if TYPE_CHECKING:
    from orrery.evaluate.results import TaskResult
    from orrery.evaluate.strategies.config import Strategy
    from orrery.evaluate.strategies.judging import Reward


def strategies(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The test-time strategies: what each does, and its settings with their defaults.

    Example: orrery eval MODEL --tasks gsm8k --strategy "direct;cot;self-consistency:n=8"
    """
    from rich.console import Console
    from rich.table import Table

    from orrery.evaluate.strategies.config import EFFORTS, KINDS, settings_of

    told = {
        kind: {"about": (cls.__doc__ or "").partition("\n")[0], "settings": settings_of(cls)}
        for kind, cls in KINDS.items()
    }
    if json:
        print_json(told)
        return
    table = Table("strategy", "what it does", "settings")
    for kind, one in told.items():
        short = [
            f"{name}={_shown(value)}" for name, value in one["settings"].items() if len(str(value)) <= 12
        ]
        long = [name for name, value in one["settings"].items() if len(str(value)) > 12]
        table.add_row(kind, one["about"], "\n".join([*short, *long]))
    console = Console()
    console.print(table)
    efforts = ", ".join(f"{name} {tokens:,}" for name, tokens in EFFORTS.items())
    console.print(f"effort, tokens of thinking at most: {efforts}", markup=False)


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if text != text.strip() else text


def read_strategies(given: Sequence[str]) -> list[Strategy | None]:
    """Those of the option, each time it is given and between semicolons; [None], plain answers, where it is not.

    Raises:
        OrreryError: no such strategy or setting.
    """
    from orrery.evaluate.strategies.config import parse

    texts = [text for option in given for text in option.split(";") if text.strip()]
    return [parse(text) for text in dict.fromkeys(texts)] or [None]


def reward_of(strategy: Strategy | None) -> Reward | None:
    """The reward model that a strategy names, opened.

    Raises:
        OrreryError: there is none.
    """
    path = str(getattr(strategy, "reward", ""))
    if not path:
        return None
    from orrery.tune.reward import load_reward

    model = load_reward(path)
    return lambda conversations: model.score(conversations).tolist()


def print_spending(results: Sequence[TaskResult]) -> None:
    """For each task that strategies were measured on: a row a strategy, the cheapest first."""
    from rich.console import Console
    from rich.table import Table

    from orrery.evaluate.strategies.spending import COLUMNS, by_task

    for task, found in by_task(results).items():
        table = Table(title=f"{task}: accuracy against tokens", title_justify="left")
        for n, column in enumerate(COLUMNS):
            table.add_column(column, justify="right" if n else "left", overflow="fold")
        for one in found:
            table.add_row(*one.row())
        Console().print(table)
