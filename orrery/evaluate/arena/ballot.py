"""Who is shown what, and where: every pair of models on every question, in an order and on sides of each person's own.

Order and sides come from a keyed hash whose key is drawn once and kept in the votes' file: a server that is started again goes on
where it was, and nobody can work out from a page which model stands where.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orrery.evaluate.arena.votes import Choice, Vote, standing, votes_of
from orrery.evaluate.judge.grading import Rubric
from orrery.evaluate.judge.questions import Answers, Question
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import RowLog, read_rows


@dataclass(frozen=True)
class Ballot:
    """One comparison as one person sees it: two answers, and the models that nobody is told of yet."""

    id: str
    question: Question
    left: Answers
    right: Answers

    @property
    def turns(self) -> int:
        """How many turns both models answered."""
        texts = (self.left.texts[self.question.id], self.right.texts[self.question.id])
        return min(len(self.question.turns), *map(len, texts))


class Arena:
    """Comparisons of two or more models, and the votes on them.

    Attributes:
        rubric: criteria that each answer is rated by besides, or None.
        votes: those that count so far.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        answers: Sequence[Answers],
        path: str | Path,
        *,
        rubric: Rubric | None = None,
    ) -> None:
        """Args:
            answers: of two models or more, whose names differ.
            path: where votes are written; those that are there already count.

        Raises:
            OrreryError: fewer than two models, no question that two of them answered, a file of other models' votes, or one that
                cannot be written.
        """
        self.models = [given.model for given in answers]
        if len(self.models) < 2 or len(set(self.models)) < len(self.models):
            raise OrreryError("give the answers of two models or more, each with a name of its own")
        self.rubric = rubric
        self._log = RowLog(path)
        rows = read_rows(path, torn=True)
        if not rows:
            rows = [{"arena": 1, "models": self.models, "key": secrets.token_hex(16)}]
            self._log.append(rows[0])
        if rows[0].get("models") != self.models:
            self._log.close()
            raise OrreryError(
                f"'{path}' has no votes on {' and '.join(self.models)}; give the votes another file, or compare the same models"
            )
        self._key = bytes.fromhex(str(rows[0]["key"]))
        self.votes = votes_of(rows)
        self._closed = {str(row["closed"]) for row in rows[1:] if "closed" in row}
        self._pairs = [
            (question, a, b)
            for question in questions
            for a, b in itertools.combinations(answers, 2)
            if question.id in a.texts and question.id in b.texts
        ]
        if not self._pairs:
            raise OrreryError("no question was answered by two models; there is nothing to compare")
        self._ballots: dict[str, dict[str, Ballot]] = {}

    def close(self) -> None:
        """Let go of the votes' file."""
        self._log.close()

    def ballots(self, annotator: str) -> Mapping[str, Ballot]:
        """All comparisons by id, in the order this person sees them."""
        if annotator not in self._ballots:
            made = sorted(
                (self._ballot(annotator, *pair) for pair in self._pairs), key=lambda ballot: ballot.id
            )
            self._ballots[annotator] = {ballot.id: ballot for ballot in made}
        return self._ballots[annotator]

    def voted(self, annotator: str) -> dict[str, Vote]:
        """What this person has voted on, by the comparison's id, in the order of the votes."""
        ids = {_key(ballot): id for id, ballot in self.ballots(annotator).items()}
        mine = [vote for vote in self.votes if vote.annotator == annotator]
        return {ids[key]: vote for vote in mine if (key := (vote.question, vote.key[2])) in ids}

    def next(self, annotator: str) -> Ballot | None:
        """The first comparison without a vote of this person; None: all are done."""
        done = self.voted(annotator)
        return next((ballot for id, ballot in self.ballots(annotator).items() if id not in done), None)

    def before(self, annotator: str, id: str | None) -> Ballot | None:
        """The comparison this person voted on before another one (None: the last one); None: there is none, or names were shown."""
        voted = list(self.voted(annotator))
        at = voted.index(id) if id in voted else len(voted)
        return self.ballots(annotator)[voted[at - 1]] if at and annotator not in self._closed else None

    def end(self, annotator: str) -> None:
        """This person sees the names now, and has no vote any more.

        Raises:
            OrreryError: comparisons are left without a vote.
        """
        if self.next(annotator) is not None:
            raise OrreryError("names are shown when you have voted on everything")
        if annotator not in self._closed:
            self._log.append({"closed": annotator})
            self._closed.add(annotator)

    def vote(
        self, annotator: str, id: str, choice: Choice, ratings: Mapping[str, Mapping[str, int]] | None = None
    ) -> Vote:
        """Write a vote down; when this returns it is on the disk.

        Args:
            ratings: by side ("left", "right") and criterion; needed where there is a rubric, unless the choice is to skip.

        Raises:
            OrreryError: no such comparison, it is closed (this person has seen the names), or ratings that are missing or no grades.
        """
        ballot = self.ballots(annotator).get(id)
        if ballot is None:
            raise OrreryError("there is no such comparison; load the page anew")
        if annotator in self._closed:
            raise OrreryError("the names have been shown to you, so that you cannot vote any more")
        rated = {} if choice == "skip" else self._rated(ratings or {})
        vote = Vote(
            annotator=annotator,
            question=ballot.question.id,
            left=ballot.left.model,
            right=ballot.right.model,
            choice=choice,
            turns=ballot.turns,
            ratings={side.model: rated[name] for name, side in _sides(ballot) if name in rated},
            at=round(time.time(), 3),
        )
        self._log.append(vote.to_dict())
        self.votes = standing([*self.votes, vote])
        return vote

    def _rated(self, ratings: Mapping[str, Mapping[str, int]]) -> Mapping[str, Mapping[str, int]]:
        if self.rubric is None:
            return {}
        low, high, names = self.rubric.low, self.rubric.high, self.rubric.criteria.keys()
        given = {side: dict(ratings.get(side, {})) for side in ("left", "right")}
        if any(of.keys() != names or not all(low <= n <= high for n in of.values()) for of in given.values()):
            raise OrreryError(f"rate both answers by {', '.join(names)}, each from {low} to {high}")
        return given

    def _ballot(self, annotator: str, question: Question, a: Answers, b: Answers) -> Ballot:
        name = "\0".join((annotator, question.id, a.model, b.model)).encode()
        digest = hashlib.blake2b(name, key=self._key, digest_size=16).digest()
        left, right = (a, b) if digest[-1] % 2 else (b, a)
        return Ballot(digest[:12].hex(), question, left, right)


def _sides(ballot: Ballot) -> tuple[tuple[str, Answers], tuple[str, Answers]]:
    return ("left", ballot.left), ("right", ballot.right)


def _key(ballot: Ballot) -> tuple[str, frozenset[str]]:
    return ballot.question.id, frozenset((ballot.left.model, ballot.right.model))
