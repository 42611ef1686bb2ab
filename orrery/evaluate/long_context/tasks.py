"""The tasks by name: items of each, made from hay or rows by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from orrery.evaluate.long_context.aggregation import common_words, frequent_words
from orrery.evaluate.long_context.documents import Question, made_up_lives, qa
from orrery.evaluate.long_context.filler import Filler
from orrery.evaluate.long_context.item import Item
from orrery.evaluate.long_context.needle import grid, needle
from orrery.evaluate.long_context.nolima import nolima
from orrery.evaluate.long_context.tracing import variable_tracing
from orrery.kit.errors import OrreryError, suggest

TaskName = Literal[
    "needle", "multi-key", "multi-value", "multi-query", "nolima", "nolima-2", "tracing", "common-words", "frequent-words", "qa"
]  # fmt: skip
TASKS: tuple[TaskName, ...] = get_args(TaskName)
RULER: tuple[TaskName, ...] = tuple(name for name in TASKS if not name.startswith("nolima"))
"""The tasks after RULER; the two others need knowledge besides."""


def items(
    name: TaskName | str,
    *,
    n: int,
    seed: int = 0,
    depths: int = 5,
    filler: Filler | None = None,
    rows: Sequence[Question] | None = None,
    difficulty: int = 4,
) -> list[Item]:
    """`n` items of a task; of `needle`, `n` at each of `depths` depths. The same items serve at every length.

    Args:
        filler: the hay; None: made-up sentences. rows: documents and questions of `qa`; None: made-up lives.
        difficulty: keys, values, queries or hops of the tasks that have several.

    Raises:
        OrreryError: no such task.
    """
    hay = Filler.made_up(seed=seed) if filler is None else filler
    match name:
        case "needle":
            return grid(hay, seed=seed, depths=depths, items=n)
        case "multi-key":
            return [needle(hay, seed=seed, index=i, n_keys=difficulty, task=name) for i in range(n)]
        case "multi-value":
            return [needle(hay, seed=seed, index=i, values=difficulty, task=name) for i in range(n)]
        case "multi-query":
            return [
                needle(hay, seed=seed, index=i, n_keys=difficulty, queries=difficulty, task=name)
                for i in range(n)
            ]
        case "nolima" | "nolima-2":
            hops = 1 if name == "nolima" else 2
            return [nolima(hay, seed=seed, index=i, hops=hops, depth=(i + 0.5) / n) for i in range(n)]
        case "tracing":
            return [variable_tracing(hay, seed=seed, index=i, hops=difficulty) for i in range(n)]
        case "common-words":
            return [common_words(seed=seed, index=i) for i in range(n)]
        case "frequent-words":
            return [frequent_words(seed=seed, index=i) for i in range(n)]
        case "qa":
            given = made_up_lives(max(1000, n), seed=seed) if rows is None else rows
            return [qa(given, seed=seed, index=i) for i in range(n)]
    raise OrreryError(
        f"there is no long-context task '{name}'; tasks: {', '.join(TASKS)}.{suggest(name, TASKS)}"
    )
