from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from orrery.cli.explain import explain as verb
from orrery.glossary import render
from orrery.glossary.entries import index, load_entries, written
from orrery.glossary.explain import explain, listing
from orrery.kit.errors import OrreryError

app = typer.Typer()
app.command()(verb)


def invoke(*args: str) -> str:
    result = CliRunner().invoke(app, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def shown(what: object) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_page_has_definition_formula_code_related_and_source() -> None:
    page = invoke("momentum")
    assert "Keep a velocity" in page and "v ← μv + g" in page
    assert "orrery/train/optim/sgd.py:" in page
    assert "nesterov" in page and "Polyak 1964" in page and "momentum-on-a-ravine" in page
    assert "$" not in page and "\\" not in page


def test_every_entry_renders_without_leftover_markup() -> None:
    for entry in load_entries():
        page = shown(render.explanation(explain(entry.slug)))
        assert "$" not in page, entry.slug
        assert "\\" not in page, entry.slug


def test_json_carries_the_same() -> None:
    said = json.loads(invoke("momentum", "--json"))
    assert said["slug"] == "momentum" and said["written"] and said["code"][0]["file"].endswith("sgd.py")


def test_words_are_joined_and_a_missing_entry_is_said() -> None:
    slug = next(slug for slug in index() if slug not in written() and index()[slug].kind == "model")
    page = invoke(*slug.split("-"))
    assert "not written yet" in page


def test_run_shows_the_exhibit_and_saves_it(tmp_path: Path) -> None:
    page = invoke("nesterov", "--run", "--save", str(tmp_path / "out.svg"))
    assert "no momentum" in page and "└" in page
    assert (tmp_path / "out.svg").read_text().startswith("<svg")
    results = json.loads(invoke("nesterov", "--run", "--json"))["results"]
    assert results["momentum-on-a-ravine"]["rows"]


def test_list_area_and_coverage() -> None:
    assert "nucleus" in invoke("--area", "decoding")
    assert len(json.loads(invoke("--list", "--json"))) == len(index())
    rows = json.loads(invoke("--coverage", "--json"))
    assert {row["area"] for row in rows} == {term.area for term in index().values()}
    assert "tokenization" in invoke("--coverage")
    assert [term.area for term in listing("decoding")] == ["decoding"] * 11


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "say which term"),
        (("--area", "optimisation"), "Did you mean 'optimization'"),
        (("--coverage", "--area", "nowhere"), "no area is called"),
        (("momentum", "--save", "x.pdf"), "should end in .svg or .html"),
    ],
)
def test_mistakes_are_one_sentence(args: tuple[str, ...], says: str) -> None:
    with pytest.raises(OrreryError, match=says):
        invoke(*args)


def test_explaining_does_not_import_torch() -> None:
    code = "import sys; from orrery.cli.explain import explain; explain(['momentum']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
