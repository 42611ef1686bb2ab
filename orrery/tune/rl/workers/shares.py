"""Who is asked what: problems in runs of nearly equal length, each with the place of its first, so that merged answers are those of one.

    7 problems, 3 workers: 0 1 | 2 3 | 4 5 6

(The draws of an answer are keyed by the place of its problem, see `rollout`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from orrery.tune.rl.answering import Answering
from orrery.tune.rl.problems import Problem
from orrery.tune.rl.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Share:
    """Problems for one worker, and how they are to be answered (see `Speaker.play`); `first` is the place of the first among all."""

    problems: tuple[Problem, ...]
    first: int
    responses: int
    seed: int
    temperature: float

    def by(self, who: Answering) -> list[Trajectory]:
        """Its episodes."""
        return who.ask(
            self.problems, responses=self.responses, seed=self.seed, temperature=self.temperature, first=self.first
        )()  # fmt: skip


def shares(
    problems: Sequence[Problem],
    workers: int,
    *,
    responses: int,
    seed: int,
    temperature: float,
    first: int = 0,
) -> list[Share]:
    """One for each worker that gets any."""
    cuts = [len(problems) * n // workers for n in range(workers + 1)]
    return [
        Share(
            problems=tuple(problems[begin:end]), first=first + begin, responses=responses, seed=seed, temperature=temperature
        )
        for begin, end in pairwise(cuts)
        if end > begin
    ]  # fmt: skip
