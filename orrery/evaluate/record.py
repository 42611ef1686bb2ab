"""One question and what became of it: the unit of results, of resuming, and of comparing two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orrery.evaluate.scorers.base import Weighted


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row's outcome.

    Attributes:
        id, key: the row (`rows.Row`). group: its group's name, empty where the task has none.
        prompt: the whole text that was asked. own: the row's own part of it. answer: what came: text, or the chosen continuation.
        gold: the right answer.
        scores: by metric; empty where `unscored` says why it could not be scored. weights: how often a score counts, where not once.
        truncated: tokens of the prompt that the model could not see.
        detail: what the scores were made of: log-probabilities of each choice, further samples, how the answer ended.
    """

    id: int
    key: str
    group: str = ""
    prompt: str = ""
    own: str = ""
    answer: str = ""
    gold: Any = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    unscored: str = ""
    truncated: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without what is empty."""
        return {name: value for name, value in asdict(self).items() if value or name == "id"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `to_dict`."""
        return cls(**data)


def weights_of(scores: Mapping[str, float]) -> dict[str, float]:
    """The weights that a scorer's numbers carry, by metric."""
    return {name: score.weight for name, score in scores.items() if isinstance(score, Weighted)}
