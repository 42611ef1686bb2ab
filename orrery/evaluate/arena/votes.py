"""What people said: votes in a file that only grows, and a crash costs at most the vote being written.

The first row says what is compared; each further one is a vote with the models as they stood, left first, or says that somebody has
been shown the names, after which they have no vote. A later vote of the same person on the same answers takes the earlier one's place
(they went back), and both stay in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from orrery.evaluate.statistics.battles import Battle
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows

Choice = Literal["left", "right", "tie", "bad", "skip"]
WINNER: Mapping[str, Literal["a", "b", "tie"]] = {"left": "a", "right": "b", "tie": "tie", "bad": "tie"}


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One person's choice between two models' answers to a question.

    Attributes:
        left, right: the models whose answers stood there.
        choice: the better side; "tie": equally good; "bad": neither is any good; "skip": no opinion, which is no vote.
        ratings: by model and criterion, where a rubric was asked for.
        turns: of how many turns the conversation was. at: Unix seconds.
    """

    annotator: str
    question: str
    left: str
    right: str
    choice: Choice
    turns: int = 1
    ratings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    at: float = 0.0

    @property
    def key(self) -> tuple[str, str, frozenset[str]]:
        """Who voted on what."""
        return self.annotator, self.question, frozenset((self.left, self.right))

    @property
    def winner(self) -> str | None:
        """The model that was preferred, "" for neither; None where the vote was skipped."""
        return {"left": self.left, "right": self.right, "skip": None}.get(self.choice, "")

    def to_dict(self) -> dict[str, Any]:
        """A row of the file."""
        return asdict(self)


def read_votes(path: str | Path) -> list[Vote]:
    """The votes that count: of each person on each pair of answers the last one, in the order they were given.

    Raises:
        OrreryError: a file that cannot be read, or one of something else.
    """
    rows = read_rows(path, torn=True)
    if not rows or "arena" not in rows[0]:
        raise OrreryError(f"'{path}' is no file of votes; give one that `orrery arena` wrote")
    try:
        return votes_of(rows)
    except TypeError as error:
        raise OrreryError(f"'{path}' holds a row that is no vote: {error}") from None


def votes_of(rows: Sequence[Mapping[str, Any]]) -> list[Vote]:
    """The votes that count among the rows of a file."""
    return standing(Vote(**row) for row in rows[1:] if "closed" not in row)


def standing(votes: Iterable[Vote]) -> list[Vote]:
    """Votes without those that their own voter took back."""
    kept: dict[Any, Vote] = {}
    for vote in votes:
        kept.pop(vote.key, None)
        kept[vote.key] = vote
    return list(kept.values())


def battles(votes: Iterable[Vote]) -> list[Battle]:
    """For `statistics.leaderboard`; skipped ones are none."""
    return [Battle(v.left, v.right, WINNER[v.choice]) for v in votes if v.choice in WINNER]


def majority(votes: Sequence[Vote], a: str, b: str) -> dict[tuple[str, int], str]:
    """By (question, turns) whom most people preferred: "a", "b", or "tie" (also where they are split evenly). What
    `judge.agreement` compares a judge with."""
    counts: dict[tuple[str, int], float] = {}
    for vote in votes:
        if {vote.left, vote.right} == {a, b} and vote.winner is not None:
            key = (vote.question, vote.turns)
            counts[key] = counts.get(key, 0.0) + {a: 1.0, b: -1.0}.get(vote.winner, 0.0)
    return {key: "a" if n > 0 else "b" if n < 0 else "tie" for key, n in counts.items()}
