"""Votes are kept, sides are drawn, names stay hidden, and the tally is right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from orrery.evaluate.arena.ballot import Arena
from orrery.evaluate.arena.tally import tally
from orrery.evaluate.arena.votes import Vote, battles, majority, read_votes
from orrery.evaluate.judge.grading import Rubric
from orrery.evaluate.judge.questions import Answers, Question
from orrery.evaluate.statistics.battles import Battle
from orrery.kit.errors import OrreryError

QUESTIONS = [Question(id=str(i), turns=("one?", "two?")) for i in range(30)]


def answers(model: str) -> Answers:
    return Answers(model=model, texts={q.id: (f"{model} 1", f"{model} 2") for q in QUESTIONS})


def arena(path: Path, models: str = "xy", **settings) -> Arena:
    return Arena(QUESTIONS, [answers(model) for model in models], path / "votes.jsonl", **settings)


def test_sides_are_drawn_for_each_person(tmp_path: Path) -> None:
    made = arena(tmp_path)
    left = {who: [b.left.model for b in made.ballots(who).values()] for who in ("ann", "bob", "cy")}
    order = {who: [b.question.id for b in made.ballots(who).values()] for who in left}
    assert (
        len({tuple(names) for names in left.values()}) == 3
        and len({tuple(ids) for ids in order.values()}) == 3
    )
    count = Counter(name for names in left.values() for name in names)
    assert 25 < count["x"] < 65
    assert not {b.id for b in made.ballots("ann").values()} & {b.id for b in made.ballots("bob").values()}
    made.close()


def test_votes_survive_and_are_gone_on_with(tmp_path: Path) -> None:
    first = arena(tmp_path)
    shown = [first.next("ann")]
    first.vote("ann", shown[0].id, "left")
    shown.append(first.next("ann"))
    first.vote("ann", shown[1].id, "tie")
    first.close()
    path = tmp_path / "votes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"annotator": "ann", "que')  # the machine went down here
    again = arena(tmp_path)
    assert [vote.choice for vote in again.votes] == ["left", "tie"]
    assert again.votes[0].left == shown[0].left.model
    following = again.next("ann")
    assert following.id not in {ballot.id for ballot in shown}
    assert list(again.ballots("ann")) == list(first.ballots("ann"))  # the same sides as before
    again.vote("ann", following.id, "right")
    again.close()
    assert [vote.choice for vote in read_votes(path)] == ["left", "tie", "right"]
    with pytest.raises(OrreryError, match="no votes on x and z"):
        arena(tmp_path, "xz")


def test_going_back_replaces_a_vote(tmp_path: Path) -> None:
    made = arena(tmp_path)
    ballot = made.next("ann")
    assert made.before("ann", None) is None
    made.vote("ann", ballot.id, "left")
    assert made.before("ann", made.next("ann").id) is ballot
    made.vote("ann", ballot.id, "bad")
    assert [vote.choice for vote in made.votes] == ["bad"]
    assert (
        len((tmp_path / "votes.jsonl").read_text().splitlines()) == 3
    )  # nothing is ever taken out of the file
    made.close()


def test_names_are_shown_at_the_end_and_close_the_votes(tmp_path: Path) -> None:
    made = arena(tmp_path)
    with pytest.raises(OrreryError, match="voted on everything"):
        made.end("ann")
    while ballot := made.next("ann"):
        made.vote("ann", ballot.id, "skip" if ballot.question.id == "3" else "left")
    made.vote("ann", ballot_id := next(iter(made.ballots("ann"))), "right")  # still open
    made.end("ann")
    made.end("ann")
    with pytest.raises(OrreryError, match="cannot vote any more"):
        made.vote("ann", ballot_id, "left")
    assert made.before("ann", None) is None
    made.close()
    with pytest.raises(OrreryError, match="cannot vote any more"):
        arena(tmp_path).vote("ann", ballot_id, "left")
    assert len(read_votes(tmp_path / "votes.jsonl")) == 30


def test_a_rubric_asks_for_every_grade(tmp_path: Path) -> None:
    made = arena(tmp_path, rubric=Rubric(criteria={"right": "is right", "clear": "is clear"}))
    ballot = made.next("ann")
    full = {"left": {"right": 5, "clear": 4}, "right": {"right": 1, "clear": 2}}
    for wrong in ({}, {"left": full["left"]}, {**full, "right": {"right": 6, "clear": 2}}):
        with pytest.raises(OrreryError, match="rate both answers by right, clear, each from 1 to 5"):
            made.vote("ann", ballot.id, "left", wrong)
    made.vote("ann", ballot.id, "left", full)
    assert made.votes[0].ratings == {ballot.left.model: full["left"], ballot.right.model: full["right"]}
    found = tally(made.votes).ratings
    assert found[ballot.left.model]["clear"].mean == 4 and found[ballot.right.model]["right"].mean == 1
    made.vote("ann", made.next("ann").id, "skip")
    made.close()


def vote(who: str, question: int, winner: str, *, left: str = "x") -> Vote:
    """`winner`: x, y, tie or skip."""
    right = "y" if left == "x" else "x"
    choice = {left: "left", right: "right"}.get(winner, winner)
    return Vote(annotator=who, question=str(question), left=left, right=right, choice=choice)


def test_the_tally_by_hand() -> None:
    """Ann and bob on 8 answers, x for half of them each, differing on two: agreement 0.75, chance 0.5, kappa 0.5."""
    votes = [vote("ann", i, "x" if i < 4 else "y", left="xy"[i % 2]) for i in range(8)]
    votes += [vote("bob", i, "x" if i in (0, 1, 2, 4) else "y") for i in range(8)] + [vote("bob", 8, "skip")]
    found = tally(votes)
    (pair,) = found.raters
    assert (pair.first, pair.second, pair.n, pair.kappa) == ("ann", "bob", 8, pytest.approx(0.5))
    assert found.fleiss == pytest.approx(0.5)
    assert [row.rating.mean for row in found.standings] == [pytest.approx(1000), pytest.approx(1000)]
    assert found.choices["skip"] == 1
    assert found.left.mean == sum(v.choice == "left" for v in votes) / 16


def test_battles_and_majority() -> None:
    votes = [vote("ann", 1, "x"), vote("bob", 1, "x", left="y"), vote("cy", 1, "y"), vote("ann", 2, "tie"), vote("bob", 2, "skip")]  # fmt: skip
    assert battles(votes)[1] == Battle("y", "x", "b") and len(battles(votes)) == 4
    assert majority(votes, "x", "y") == {("1", 1): "a", ("2", 1): "tie"}
    assert majority(votes, "y", "x") == {("1", 1): "b", ("2", 1): "tie"}
    assert tally([]).standings == [] and tally([]).fleiss is None


def test_three_models_meet_each_other(tmp_path: Path) -> None:
    made = arena(tmp_path, "xyz")
    assert len(made.ballots("ann")) == 90
    while ballot := made.next("ann"):
        made.vote("ann", ballot.id, "left" if ballot.left.model < ballot.right.model else "right")
    found = tally(made.votes).standings
    assert [row.model for row in found] == ["x", "y", "z"] and [row.rank for row in found] == [1, 2, 3]
    made.close()


@pytest.mark.parametrize("models", ["x", "xx"])
def test_models_need_names(tmp_path: Path, models: str) -> None:
    with pytest.raises(OrreryError, match="two models or more"):
        arena(tmp_path, models)


def test_what_is_no_file_of_votes(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(OrreryError, match="no file of votes"):
        read_votes(path)
