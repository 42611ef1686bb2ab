"""What strategies cost and what they bring: accuracy against the tokens spent on an answer.

An answer that cannot be read has no score (`scorers.base`), but a strategy that arrives at none has not solved its question: `solved`
counts all questions that were asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.evaluate.figures import Curve, curves
from orrery.evaluate.results import TaskResult, mean_of_scores
from orrery.evaluate.statistics.estimate import Estimate, mean_estimate
from orrery.evaluate.strategies.config import Strategy, label
from orrery.kit.config import resolve

COLUMNS = ("strategy", "solved", "95% interval", "tokens an answer", "tokens read", "calls", "unscored", "n")


@dataclass(frozen=True, kw_only=True)
class Spending:
    """One strategy on one task.

    Attributes:
        solved: the task's first metric over all questions asked, those without a score counting 0.
        tokens: made for an answer, in all its calls. read: of the prompts of these calls, cached or not. calls: completions.
    """

    strategy: Strategy
    solved: Estimate
    tokens: Estimate
    read: float
    calls: float
    unscored: int

    @property
    def name(self) -> str:
        return label(self.strategy)

    def row(self) -> tuple[str, ...]:
        """The cells of `COLUMNS`."""
        interval = f"[{self.solved.low:.3f}, {self.solved.high:.3f}]"
        return (
            self.name, f"{self.solved.mean:.3f}", interval, f"{self.tokens.mean:,.1f}", f"{self.read:,.0f}", f"{self.calls:.1f}",
            f"{self.unscored:,}", f"{self.solved.n:,}",
        )  # fmt: skip


def spending(result: TaskResult) -> Spending | None:
    """What a result says of its strategy; None where it was measured without one, or nothing was asked."""
    told = result.settings.get("strategy")
    asked = [record for record in result.records if "calls" in record.detail]
    if told is None or not asked:
        return None
    main = next(iter(result.metrics), "")
    values = np.array([record.scores.get(main, 0.0) for record in asked])
    read, calls = (float(np.mean([record.detail[name] for record in asked])) for name in ("read", "calls"))
    return Spending(
        strategy=resolve(Strategy, told), solved=mean_of_scores(values), read=read, calls=calls,
        tokens=mean_estimate(np.array([float(record.detail["tokens"]) for record in asked])),
        unscored=sum(bool(record.unscored) for record in asked),
    )  # fmt: skip


def by_task(results: Iterable[TaskResult]) -> dict[str, list[Spending]]:
    """The strategies of each task, the cheapest first."""
    found: dict[str, list[Spending]] = defaultdict(list)
    for result in results:
        if (one := spending(result)) is not None:
            found[result.task.partition("@")[0]].append(one)
    return {task: sorted(of, key=lambda one: one.tokens.mean) for task, of in found.items()}


def figure(task: str, found: Sequence[Spending]) -> str:
    """Accuracy against tokens as SVG: a line for each kind of strategy through its settings, bars for the intervals."""
    kinds: Mapping[str, list[Spending]] = defaultdict(list)
    for one in found:
        kinds[one.strategy.kind].append(one)
    lines = [
        Curve(name=kind, x=[max(one.tokens.mean, 1.0) for one in of], y=[one.solved for one in of])
        for kind, of in kinds.items()
    ]
    most = max(x for line in lines for x in line.x)
    least = min(x for line in lines for x in line.x)
    marks = [2.0**i for i in range(32) if least <= 2.0**i <= most]
    return curves(
        f"{task}: solved against tokens spent",
        lines,
        x="tokens made for an answer",
        y="share solved",
        log_x=True,
        marks=marks,
    )
