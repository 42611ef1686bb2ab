"""`orrery eval long` on a model that finds needles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import orrery
from orrery.cli.eval import app
from orrery.glossary.exhibits._recall import recall_lm


def run(*args: str) -> str:
    result = CliRunner().invoke(app, ["long", *args], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_numbers_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orrery, "load", lambda path: recall_lm())
    hay = tmp_path / "hay.txt"
    hay.write_text("The old bell slept. " * 50)
    told = json.loads(
        run("model", "--lengths", "200,120", "--tasks", "needle,qa", "--items", "2", "--depths", "2", "--middle", "4",
            "--text", str(hay), "--out", str(tmp_path / "out"), "--json")
    )  # fmt: skip
    assert list(told["tasks"]) == ["needle", "qa"]
    assert list(told["tasks"]["needle"]["scores"]) == ["120", "200"]
    assert told["tasks"]["needle"]["scores"]["120"]["n"] == 4
    assert list(told["positions"]) == ["key-values", "documents"]
    assert (tmp_path / "out" / "needle.svg").read_text().startswith("<svg")


def test_mistakes_are_sentences() -> None:
    from orrery.kit.errors import OrreryError

    for args, message in (
        (["--lengths", "1k"], "no prompt length"),
        (["--tasks", "neele"], "no long-context task"),
    ):
        with pytest.raises(OrreryError, match=message):
            run("model", *args)
