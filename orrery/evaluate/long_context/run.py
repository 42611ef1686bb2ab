"""Items asked at every length, and what came of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orrery.evaluate.long_context.fit import Frame, Trial, fitted
from orrery.evaluate.long_context.item import Item, score_answer
from orrery.evaluate.roles import Generates
from orrery.evaluate.statistics.estimate import Estimate
from orrery.evaluate.statistics.proportion import wilson
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.kit.log import Progress, Silent


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer. `score` in [0, 1]; None: not scored, and `unscored` says why. `cached`: tokens that were read before."""

    task: str
    index: int
    length: int
    score: float | None
    text: str
    answers: tuple[tuple[str, ...], ...]
    unscored: str = ""
    cached: int = 0
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Records:
    """The answers of a run."""

    rows: tuple[Record, ...]

    def by_length(self, task: str) -> dict[int, list[Record]]:
        """A task's records by prompt length, shortest first."""
        found: dict[int, list[Record]] = defaultdict(list)
        for row in self.rows:
            if row.task == task:
                found[row.length].append(row)
        return dict(sorted(found.items()))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order they were asked."""
        return tuple(dict.fromkeys(row.task for row in self.rows))

    @property
    def unscored(self) -> dict[str, int]:
        """Reasons and how often each."""
        return dict(Counter(row.unscored for row in self.rows if row.score is None))

    @property
    def cached_share(self) -> float:
        """The share of prompt tokens that the engine found in its cache."""
        asked = sum(row.length for row in self.rows if row.score is not None)
        return sum(row.cached for row in self.rows) / asked if asked else 0.0


def estimate(rows: Iterable[Record], level: float = 0.95) -> Estimate | None:
    """Mean score of the scored rows with Wilson's interval; None where no row is scored.

    The interval takes each score for a draw of 0 or 1. For scores between them it is too wide rather than too narrow: no variable in
    [0, 1] of that mean varies more.
    """
    scores = [row.score for row in rows if row.score is not None]
    return wilson(sum(scores), len(scores), level=level) if scores else None


def run_trials(
    lm: Generates,
    trials: Sequence[Trial],
    *,
    context: int,
    batch: int = 32,
    progress: Progress | None = None,
) -> Records:
    """Ask trials greedily, in their order, and score the answers.

    A prompt that with its answer is longer than `context` (what the model looks at) is not asked and not scored.
    """
    shown = progress or Silent()
    rows: dict[int, Record] = {}
    asked = [i for i, trial in enumerate(trials) if trial.length + trial.item.max_tokens <= context]
    for start in range(0, len(asked), batch):
        group = asked[start : start + batch]
        completions = lm.generate([_request(trials[i]) for i in group])
        rows |= {i: _record(trials[i], done) for i, done in zip(group, completions, strict=True)}
        shown.update(start + len(group), len(asked), tokens=trials[group[-1]].length)
    for i in set(range(len(trials))) - rows.keys():
        rows[i] = _record(trials[i], None)
    return Records(tuple(rows[i] for i in range(len(trials))))


def run_lengths(
    lm: Generates,
    items: Sequence[Item],
    lengths: Sequence[int],
    *,
    frame: Frame,
    context: int,
    progress: Progress | None = None,
) -> Records:
    """Every item at every length, the shortest first."""
    trials = [fitted(item, frame, length) for length in sorted(set(lengths)) for item in items]
    return run_trials(lm, trials, context=context, progress=progress)


def _request(trial: Trial) -> GenerateRequest:
    return GenerateRequest(
        ids=trial.ids, max_tokens=trial.item.max_tokens, sampling=Sampling(temperature=0.0), stop=trial.stop
    )


def _record(trial: Trial, done: Completion | None) -> Record:
    """None: the prompt was not asked."""
    item = trial.item
    return Record(
        task=item.task,
        index=item.index,
        length=trial.length,
        score=None if done is None else score_answer(done.text, item),
        text="" if done is None else done.text,
        answers=item.answers,
        unscored="longer than the model's context" if done is None else "",
        cached=0 if done is None else done.cached_tokens,
        tags=item.tags,
    )
