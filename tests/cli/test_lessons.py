"""Teaching and measuring as stages of a run: what the report says about them is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import orrery as package
from orrery.evaluate.results import read_results

ASKED = [("the cat", "sat"), ("a dog", "ran"), ("the mat", "lay"), ("a bird", "flew")]
TASK = """
name: verbs
version: 1
about: What each animal did.
data: {path: verbs.jsonl}
kind: generate
prompt: "{{ who }}"
target: " {{ did }}"
stop: ["\\n"]
max_tokens: 6
score: verbatim
metrics: [exact_match]
"""


@pytest.fixture(scope="module")
def taught(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that teaches the model of `small_run` four answers, and asks for them before and after."""
    base = tmp_path_factory.mktemp("taught")
    rows = [{"prompt": who, "completion": did, "who": who, "did": did} for who, did in ASKED]
    (base / "verbs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (base / "verbs.yaml").write_text(TASK)
    ask = {"kind": "eval", "tasks": [str(base / "verbs.yaml")], "data": str(base), "shots": 0, "chat": True}
    recipe = {
        "name": "taught",
        "out": str(base / "run"),
        "stages": [
            {
                "kind": "tune",
                "name": "sft",
                "base": str(small_run),
                "data": [{"paths": [str(base / "verbs.jsonl")]}],
                "heldout": 0.0,
                "loader": {"context": 64, "rows": 2},
                "loop": {"steps": 60, "optimizer": {"kind": "adamw", "lr": 1e-2}, "validate_every": None},
            },
            {**ask, "name": "before", "model": str(small_run)},
            {**ask, "name": "after", "model": "sft"},
        ],
    }
    return package.run(recipe)


def test_it_has_learned_and_the_report_says_so(taught: Path) -> None:
    stages = {
        entry["name"]: taught / entry["folder"]
        for entry in json.loads((taught / "run.json").read_text())["stages"]
    }
    before, after = (
        read_results(stages[name])["verbs"].metrics["exact_match"].mean for name in ("before", "after")
    )
    assert (before, after) == (0.0, 1.0)
    text, page = (taught / "report.md").read_text(), (taught / "report.html").read_text()
    assert "Teaching it moved verbs from 0.000 to 1.000." in text
    for who, did in ASKED:
        assert f"{who}\n> {did}    (right)" in text
        assert f"<b>{did}</b>" in page


def test_a_run_folder_answers_with_the_model_it_ended_with(taught: Path) -> None:
    lm = package.load(taught)
    reply = lm.generate([{"role": "user", "content": "the mat"}], temperature=0, max_tokens=6)
    assert reply.text.strip() == "lay"
