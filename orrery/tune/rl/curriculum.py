"""Which problems come next: all mixed, or set after set as they are mastered; and none that is known to be too easy or too hard.

    rate of a problem = its answers that passed / its answers, since it was last measured afresh

A group in which all answers are right, or all wrong, teaches nothing to a group-relative loss, so what was found always right or
never right is passed over for a while. (Curriculum learning: Bengio et al. 2009; difficulty filters by pass rate: Team Kimi 2025,
arXiv:2501.12599, section 2.3.)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.data.shuffle import shuffled
from orrery.kit.config import config
from orrery.kit.seeds import key, uniform
from orrery.tune.rl.problems import Problem

Share = Annotated[float, Field(ge=0, le=1)]


@config
class Curriculum:
    """How problems are chosen.

    Attributes:
        order: mixed: from all sets alike, each problem once an epoch. staged: from the first set, then, when its mean pass rate
            over the last `window` problems reaches `advance_at`, from the next; one in five from the sets before.
        low, high: a problem is passed over while its measured pass rate lies outside; 0 and 1 keep all.
        retry: in every so-many-th epoch those passed over are asked again.
    """

    order: Literal["mixed", "staged"] = "mixed"
    advance_at: Share = 0.8
    window: Annotated[int, Field(ge=1)] = 64
    rehearsal: Share = 0.2
    low: Share = 0.0
    high: Share = 1.0
    retry: Annotated[int, Field(ge=2)] = 4


@dataclass
class Draws:
    """The sequence of problems of a run. What `state` says and the seed decide all that follows."""

    cfg: Curriculum
    sets: Sequence[Sequence[Problem]]
    seed: int
    drawn: int = 0
    stage: int = 0
    cursors: list[int] = field(default_factory=list)
    rates: dict[str, list[float]] = field(default_factory=dict)
    recent: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cursors = self.cursors or [0] * (1 if self.cfg.order == "mixed" else len(self.sets))

    def take(self, n: int) -> list[Problem]:
        """The next `n` problems."""
        return [self._next() for _ in range(n)]

    def saw(self, problem: Problem, passed: Sequence[float]) -> None:
        """What became of the answers to a problem: 1 for each that passed."""
        rate = sum(passed) / len(passed)
        self.rates[problem.id] = [sum(passed), len(passed)]
        if problem.part == self.stage:
            self.recent = [*self.recent, rate][-self.cfg.window :]
        mastered = (
            len(self.recent) == self.cfg.window and sum(self.recent) >= self.cfg.advance_at * self.cfg.window
        )
        if self.cfg.order == "staged" and mastered and self.stage + 1 < len(self.sets):
            self.stage, self.recent = self.stage + 1, []

    def state(self) -> dict[str, Any]:
        """JSON-able, as it is now; `load` takes it back."""
        names = ("drawn", "stage", "cursors", "rates", "recent")
        return {name: deepcopy(getattr(self, name)) for name in names}

    def load(self, state: dict[str, Any]) -> None:
        """Become what `state` described."""
        for name, value in state.items():
            setattr(self, name, deepcopy(value))

    def _next(self) -> Problem:
        part = self._part()
        pool = [p for one in self.sets for p in one] if self.cfg.order == "mixed" else self.sets[part]
        self.drawn += 1
        for _ in range(2 * len(pool)):  # an epoch at most is passed over; then whatever comes
            epoch, at = divmod(self.cursors[part], len(pool))
            self.cursors[part] += 1
            problem = pool[shuffled(at, len(pool), key(self.seed, "problems", part, epoch))]
            if epoch % self.cfg.retry == self.cfg.retry - 1 or self._wanted(problem):
                break
        return problem

    def _part(self) -> int:
        """The set to draw from; in the mixed order there is one."""
        if (
            self.cfg.order == "staged"
            and self.stage
            and uniform(self.seed, "rehearse", self.drawn) < self.cfg.rehearsal
        ):
            return key(self.seed, "rehearsed", self.drawn) % self.stage
        return self.stage if self.cfg.order == "staged" else 0

    def _wanted(self, problem: Problem) -> bool:
        passed, tried = self.rates.get(problem.id, (0.0, 0.0))
        return not tried or self.cfg.low <= passed / tried <= self.cfg.high
