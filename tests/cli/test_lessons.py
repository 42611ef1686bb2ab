"""Teaching and measuring as stages of a run: what the report says about them is what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import orrery as package
from orrery.cli.pipeline.lessons import Practice
from orrery.cli.pipeline.report_html import practice_charts
from orrery.evaluate.compare import compare
from orrery.evaluate.results import read_results
from orrery.kit.artifact import read_receipt
from orrery.serve.find import find_model

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


@pytest.fixture(scope="module")
def practised(small_run: Path, taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the taught model practises; the tasks are asked of all three models."""
    base = taught.parent
    ask = {"kind": "eval", "tasks": [str(base / "verbs.yaml")], "data": str(base), "shots": 0, "chat": True}
    problems = {"paths": ["verbs.jsonl"], "prompt": "{{ who }}", "target": "{{ did }}"}
    tune = {"kind": "tune", "name": "sft", "base": str(small_run), "data_root": str(base), "data": [{"paths": ["verbs.jsonl"]}]}  # fmt: skip
    recipe = {
        "name": "practised",
        "out": str(tmp_path_factory.mktemp("practised") / "run"),
        "stages": [
            {
                **tune,
                "heldout": 0.0,
                "loader": {"context": 64, "rows": 2},
                "loop": {"steps": 20, "optimizer": {"kind": "adamw", "lr": 1e-2}, "validate_every": None},
            },
            {**ask, "name": "before", "model": str(small_run)},
            {**ask, "name": "after", "model": "sft"},
            {
                "kind": "rl",
                "data_root": str(base),
                "rl": {
                    "problems": [problems],
                    "heldout": 2,
                    "rollout": {"prompts": 2, "responses": 4, "max_tokens": 4},
                    "kl": {"measure_every": 2},
                },
                "loop": {"steps": 4, "precision": "fp32", "validate_every": 0.5},
            },
            {**ask, "name": "practised", "model": "rl"},
        ],
    }
    return package.run(recipe)


def test_the_report_shows_practice_as_it_was_logged(practised: Path, small_run: Path) -> None:
    folder = {
        entry["name"]: practised / entry["folder"]
        for entry in json.loads((practised / "run.json").read_text())["stages"]
    }
    lines = [json.loads(line) for line in (folder["rl"] / "metrics.jsonl").read_text().splitlines()]
    receipt = read_receipt(folder["rl"])
    practice = Practice(name="rl", effects=receipt.effects, metrics=lines)
    before, after = (receipt.effects["accuracy"][name] for name in ("before", "after"))
    assert practice.heldout() == [(0.0, before), (2.0, lines[1]["heldout"]), (4.0, after)]
    told = practice.told()
    assert told.startswith(
        f"4 rounds, 8 problems, {sum(round(8 * line['length']) for line in lines)} tokens written"
    )
    assert told.endswith(f"{before:.3f} -> {after:.3f} of 2 held-out problems right")
    text, page = (practised / "report.md").read_text(), (practised / "report.html").read_text()
    assert f"| rl | {told} |" in text
    for title in (
        "Reward",
        "KL to the start (nats a token)",
        "Entropy (nats a token)",
        "Length of answers (tokens)",
    ):
        assert f"{title} <span" in page
    reward, kl, entropy, length = practice_charts(practice)
    assert [chart.count("<polyline") for chart in (reward, kl, entropy, length)] == [3, 2, 2, 2]


def test_accuracy_is_shown_stage_by_stage(practised: Path, small_run: Path) -> None:
    stages = json.loads((practised / "run.json").read_text())["stages"]
    results = {
        entry["name"]: read_results(practised / entry["folder"])["verbs"]
        for entry in stages
        if entry["name"] in ("before", "after", "practised")
    }
    first, second, third = (result.metrics["exact_match"].mean for result in results.values())
    text, page = (practised / "report.md").read_text(), (practised / "report.html").read_text()
    assert f"Teaching it moved verbs from {first:.3f} over {second:.3f} to {third:.3f}." in text
    assert f"| task | metric | questions | {small_run} | sft | rl | change | rl against sft |" in text
    last = compare(results["after"], results["practised"]).metrics["exact_match"].difference
    assert f"{last.mean:+.3f} [{last.low:+.3f}, {last.high:+.3f}] |\n" in text
    assert page.count('<span class="name">') == 3  # a bar a model
    assert find_model(practised).name.startswith("rl-")
