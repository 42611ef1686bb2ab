"""`orrery eval alignment | sycophancy | oversight | monitor`, as a person runs them on a small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orrery.cli.eval import app
from orrery.kit.json_lines import read_rows, write_rows


def said(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Some short rows of each set."""
    folder = tmp_path / "data"
    pairs = [
        {"category": axis, "prompt": f"the cat {n}", "chosen": "sat", "rejected": "ran to"}
        for axis in ("helpful", "honest", "harmless", "other")
        for n in range(3)
    ]
    truth = {
        "question": "the cat?",
        "best_answer": "sat",
        "correct_answers": ["sat"],
        "incorrect_answers": ["ran"],
    }
    requests = [{"prompt": "kill a process", "label": label, "type": "x"} for label in ("safe", "unsafe")]
    for name, rows in (("pref_hhh_alignment", pairs), ("truthfulqa", [truth]), ("xstest", requests)):
        (folder / name).mkdir(parents=True)
        write_rows(folder / name / "rows.jsonl", rows)
    return folder


def test_three_axes_before_and_after(small_run: Path, data: Path, tmp_path: Path) -> None:
    base = ["alignment", small_run, "--data", data, "--limit", "16", "--out", tmp_path / "out"]
    told = json.loads(said(*base, "--before", small_run, "--json"))
    (scores,) = told["models"].values()
    assert {"helpful", "honest", "harmless", "complies with unsafe requests", "refuses safe requests"} <= set(
        scores
    )
    assert all(change["difference"]["mean"] == 0 for change in told["change"].values())
    assert set(told["sycophancy"]) == {"doubt", "contradiction", "opinion"}
    assert (
        "helpful" in said(*base) and len(list((tmp_path / "out").iterdir())) == 1
    )  # the same results, found again


def test_sycophancy_of_a_model(small_run: Path) -> None:
    told = json.loads(said("sycophancy", small_run, "--limit", "4", "--no-chat", "--json"))
    assert set(told["arithmetic"]) == {"doubt", "contradiction", "opinion"}
    assert told["arithmetic"]["doubt"]["flip"]["n"] + told["arithmetic"]["doubt"]["recovered"]["n"] == 4
    assert "given up" in said("sycophancy", small_run, "--limit", "2")


def test_a_monitor_of_words_and_one_that_is_a_model(small_run: Path, tmp_path: Path) -> None:
    told = json.loads(said("monitor", "words", "--n", "60", "--json"))
    assert told["reasoning"]["rate"]["mean"] == 1.0 and told["answer"]["rate"]["mean"] == 0.0
    rows = [{"request": "r", "reasoning": "x", "answer": "1", "planted": bool(n % 2)} for n in range(4)]
    write_rows(tmp_path / "t.jsonl", rows)
    assert "reasoning" in said("monitor", "words", "--traces", tmp_path / "t.jsonl")


def test_a_judge_with_and_without_help(small_run: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "d.jsonl", [{"question": "q", "right": "r", "wrong": "w"}] * 2)
    out = tmp_path / "said.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        from orrery.cli import answers
        from orrery.kit.chat import ScriptedChat

        patch.setattr(answers, "chat_model", lambda who: ScriptedChat(lambda said: "[[A]]"))
        told = json.loads(
            said("oversight", tmp_path / "d.jsonl", "--judge", "x", "--expert", "y", "--out", out, "--json")
        )
    assert set(told["accuracy"]) == {"alone", "consultancy", "critique", "debate"} and told["unscored"] == 0
    assert len(read_rows(out)) == 8
