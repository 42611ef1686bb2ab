"""`orrery eval` in a process of its own, and as a stage of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orrery.cli.pipeline.runner import run_recipe
from orrery.kit.artifact import lineage, read_receipt, verify
from orrery.kit.errors import OrreryError


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task of pairs, its rows, and two ways to ask it."""
    folder = tmp_path_factory.mktemp("tasks")
    words = ["cat", "sat", "on", "mat", "dog", "ran", "to", "see", "hen", "garden"]
    rows = [
        {"good": f"the {w} {words[i - 1]}", "bad": f"{w} the {words[i - 1]}"} for i, w in enumerate(words)
    ]
    (folder / "order.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "order.yaml").write_text(
        "name: order\nversion: 1\nabout: Where an article stands.\nkind: pairs\ndata: {path: order.jsonl}\n"
        "pair: {good: '{{ good }}', bad: '{{ bad }}'}\nmetrics: [acc]\n"
    )
    (folder / "ways.yaml").write_text("prompts:\n  plain: {}\n  told: {prompt: 'English: '}\n")
    return folder


def test_measure_compare_and_go_on(small_run: Path, tasks: Path, tmp_path: Path, orrery: Any) -> None:
    out = tmp_path / "out"
    common = ("eval", small_run, "--tasks", tasks / "order.yaml", "--data", tasks)
    first = orrery(*common, "--out", out)
    assert first.returncode == 0, first.stderr
    assert "order" in first.stdout and "acc" in first.stdout and "orrery eval diff" in first.stdout
    assert "questions" in first.stdout  # what is known of contamination
    told = json.loads(orrery(*common, "--out", out, "--json").stdout)
    (result,) = told["results"]
    assert result["n"] == 10 and 0 <= result["metrics"]["acc"]["mean"] <= 1
    assert result["settings"]["model"]["artifact"]
    again = orrery(*common, "--out", out, "--limit", "3")
    assert again.returncode == 1 and "holds a result with other settings" in again.stderr
    compared = orrery("eval", "diff", out, out, "--json")
    (difference,) = json.loads(compared.stdout)
    assert difference["n"] == 10 and difference["metrics"]["acc"]["difference"]["mean"] == 0
    assert "B - A" in orrery("eval", "diff", out, out).stdout


def test_ways_of_asking_are_compared(small_run: Path, tasks: Path, tmp_path: Path, orrery: Any) -> None:
    ran = orrery(
        "eval", small_run, "--tasks", tasks / "order.yaml", "--data", tasks, "--prompts", tasks / "ways.yaml",
        "--out", tmp_path / "ways", "--json",
    )  # fmt: skip
    told = json.loads(ran.stdout)
    assert [result["task"] for result in told["results"]] == ["order@plain", "order@told"]
    assert told["differences"][0]["n"] == 10


def test_list_and_mistakes(small_run: Path, orrery: Any) -> None:
    listed = json.loads(orrery("eval", "list", "--json").stdout)
    assert {"gsm8k", "mmlu", "blimp"} <= {task["name"] for task in listed}
    assert "gsm8k" in orrery("eval", "list").stdout
    missing = orrery("eval", small_run, "--tasks", "gsm8k")
    assert missing.returncode == 1 and "--data DIR" in missing.stderr
    unknown = orrery("eval", small_run, "--tasks", "gsm9k")
    assert unknown.returncode == 1 and "Did you mean 'gsm8k'" in unknown.stderr
    nothing = orrery("eval", "diff", small_run, small_run)
    assert nothing.returncode == 1 and "no results at" in nothing.stderr


def test_texts_against_references(tmp_path: Path, orrery: Any) -> None:
    (tmp_path / "said").write_text("the cat sat on the mat\nyes\n")
    (tmp_path / "wanted").write_text("the cat sat on the mat\nno\n")
    found = json.loads(
        orrery(
            "eval",
            "metrics",
            tmp_path / "said",
            tmp_path / "wanted",
            "--metrics",
            "exact_match,bleu",
            "--json",
        ).stdout
    )
    assert found["exact_match"]["mean"] in (0.5, 50.0) and found["bleu"]["mean"] > 0
    assert "bleu" in orrery("eval", "metrics", tmp_path / "said", tmp_path / "wanted").stdout
    (tmp_path / "wanted").write_text("one line\n")
    short = orrery("eval", "metrics", tmp_path / "said", tmp_path / "wanted")
    assert short.returncode == 1 and "2 hypotheses and 1" in short.stderr


def test_a_stage_of_a_run(
    small_run: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "name": "scores",
        "out": str(tmp_path / "run"),
        "stages": [
            {
                "kind": "eval",
                "model": str(small_run),
                "tasks": [str(tasks / "order.yaml")],
                "data": str(tasks),
                "limit": 4,
            }
        ],
    }
    out = run_recipe(recipe, [])
    (folder,) = [path for path in out.iterdir() if path.is_dir() and path.name.startswith("eval-")]
    receipt = read_receipt(folder)
    assert (
        receipt.kind == "scores" and verify(folder) == [] and {a.state for a in lineage(folder)} == {"here"}
    )
    assert receipt.effects["tasks"]["order"]["n"] == 4
    assert "order acc" in capsys.readouterr().err
    assert receipt.effects["model"] == str(small_run)
    assert 0 <= receipt.effects["tasks"]["order"]["metrics"]["acc"]["mean"] <= 1
    run_recipe(recipe, [])
    assert "done before" in capsys.readouterr().err
    assert [path.name for path in out.iterdir() if path.name.endswith(".work")] == []
    with pytest.raises(OrreryError, match="tasks"):
        run_recipe({**recipe, "stages": [{"kind": "eval", "tasks": []}]}, [])
