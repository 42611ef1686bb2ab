"""`orrery eval judge`, `orrery eval pairs` and `orrery arena` from their options to what they write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.cli import answers as answering
from orrery.cli import arena as arena_verb
from orrery.cli.arena import arena
from orrery.cli.judge import judge, pairs
from orrery.evaluate.arena.votes import read_votes
from orrery.evaluate.judge.questions import Answers, read_answers, write_answers
from orrery.kit.chat import ScriptedChat
from orrery.kit.errors import OrreryError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [{"question_id": i, "category": "math", "turns": ["one?", "two?"]} for i in range(6)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, word in (("x", "good"), ("y", "poor")):
        texts = {str(i): (f"{word} {i}", f"{word} again") for i in range(6)}
        write_answers(tmp_path / f"{name}.jsonl", Answers(model=name, texts=texts))
    return tmp_path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    def judging(said: Any) -> str:
        text = said[-1]["content"]
        if "_b>" not in text:
            return "[[8]]"
        return "[[A]]" if text.index("good") < text.index("poor") else "[[B]]"

    monkeypatch.setattr(answering, "chat_model", lambda who: ScriptedChat(judging, name=who))


def test_two_models_are_judged(files: Path, scripted: None, capsys: pytest.CaptureFixture[str]) -> None:
    x, y, out = str(files / "x.jsonl"), str(files / "y.jsonl"), files / "out"
    judge(x, y, by="j", questions=files / "q.jsonl", out=out)
    assert "x against y, judged by j" in capsys.readouterr().out
    told = json.loads((out / "results.json").read_text())
    assert (told["win_rate"]["mean"], told["unscored"], told["judgements"]) == (1, 0, 24)
    assert len((out / "judgements.jsonl").read_text().splitlines()) == 12
    assert read_answers(out / "answers-b.jsonl").model == "y"
    judge(y, x, by="k", questions=files / "q.jsonl", others=out / "judgements.jsonl", json=True)
    again = json.loads(capsys.readouterr().out)
    assert again["agreement"]["same"]["mean"] == 1 and again["losses"] == 12


def test_one_model_is_graded_and_controls_are_judged(
    files: Path, scripted: None, capsys: pytest.CaptureFixture[str]
) -> None:
    judge(str(files / "x.jsonl"), None, by="j", questions=files / "q.jsonl", limit=3)
    assert "8.000" in capsys.readouterr().out
    with pytest.raises(OrreryError, match="a rubric grades one"):
        judge("x", "y", by="j", questions=files / "q.jsonl", rubric="helpful")


def test_a_real_small_model_answers_and_judges(
    small_run: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its context of 64 tokens holds the questions, and no judgement: all are unscored, none is a zero."""
    judge(
        str(small_run),
        str(small_run),
        by=str(small_run),
        questions=files / "q.jsonl",
        limit=2,
        max_tokens=4,
        json=True,
    )
    told = json.loads(capsys.readouterr().out)
    assert told["models"] == ["run", "run-2"] and told["unscored"] == told["judgements"] > 0
    assert told["win_rate"]["mean"] is None


def test_pairs(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a", "chosen": "cat", "rejected": "xq zv", "subset": "hep-go"}] * 4
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs(small_run, path, per="byte", chat=None, limit=2, json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["accuracy"]["n"] == 2 and told["sections"].keys() == {"Reasoning"}
    pairs(small_run, path, per="text", chat=None, limit=None, json=False)
    assert "sections' mean" in capsys.readouterr().out


def test_arena(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    votes = files / "votes.jsonl"

    def voting(made: Any, host: str, port: int, keys: Any, path: Path) -> None:
        made.vote("ann", made.next("ann").id, "left")

    monkeypatch.setattr(arena_verb, "_serve", voting)
    given = {
        "models": [str(files / "x.jsonl"), str(files / "y.jsonl")],
        "questions": files / "q.jsonl",
        "votes": votes,
    }
    arena(**given)
    arena(**given)  # goes on
    assert len(read_votes(votes)) == 2
    arena(**given, results=True)
    assert json.loads(capsys.readouterr().out)["choices"] == {"left": 2}
    (files / "votes-answers-1.jsonl").unlink()
    with pytest.raises(OrreryError, match="not beside it"):
        arena(**given)


def test_an_open_arena_needs_a_key(files: Path) -> None:
    given = {"models": [str(files / "x.jsonl"), str(files / "y.jsonl")], "questions": files / "q.jsonl"}
    with pytest.raises(OrreryError, match="give a password"):
        arena(**given, votes=files / "v.jsonl", host="0.0.0.0")
