"""What the documents show is what the program does: commands parse, settings exist, code runs, paths are there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer

from orrery.cli import app
from orrery.cli.pipeline.recipe import RunRecipe, Stage, find_recipe
from orrery.kit.config import override, read_yaml, resolve

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def commands(path: Path) -> list[str]:
    """`orrery ...` commands in code blocks, inline code and comments."""
    text = path.read_text()
    found = re.findall(r"`(orrery [a-z][^`\n]*)`", text)
    found += re.findall(r"(?:^|&& |#\s+)(orrery [a-z][^\n&#]*?)(?:\s{2,}.*)?$", text, flags=re.MULTILINE)
    return sorted({line.strip() for line in found if "..." not in line})


CASES = [(path.name, line) for path in [*DOCUMENTS, *RECIPES] if path.exists() for line in commands(path)]


def test_there_are_commands_to_check() -> None:
    assert len(CASES) > 12


@pytest.mark.parametrize(("where", "line"), CASES)
def test_command_parses_and_its_settings_exist(where: str, line: str) -> None:
    command = typer.main.get_command(app)
    verb, *arguments = shlex.split(line)[1:]
    while True:
        child = command.get_command(None, verb)  # type: ignore[attr-defined, arg-type]
        assert child is not None, f"{where}: no verb '{verb}'"
        command = child
        if not (hasattr(command, "commands") and arguments and arguments[0] in command.commands):
            break
        verb, arguments = arguments[0], arguments[1:]
    if hasattr(command, "commands"):
        return
    words = [
        argument.replace("MODEL", "README.md").replace("YOUR_FILE", "README.md") for argument in arguments
    ]
    context = command.make_context(verb, words)
    settings = context.params.get("overrides") or []
    if settings:
        recipe = context.params.get("recipe") or context.params.get("model") or "quickstart"
        data = override(read_yaml(find_recipe(recipe)), settings)
        if "stages" in data:
            resolve(RunRecipe, data)
        else:
            resolve(Stage, {k: v for k, v in data.items() if k not in ("out", "source", "split")})


def test_the_python_of_the_readme_runs(small_run: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    out = io.StringIO()
    for block in blocks:
        with contextlib.redirect_stdout(out):
            exec(
                block.replace('"runs/quickstart"', repr(str(small_run))).replace(
                    "max_tokens=64", "max_tokens=4"
                ),
                {},
            )
    assert "torch.Size([3," in out.getvalue()


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.exists()], ids=lambda p: p.name)
def test_links_and_paths_exist(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), f"{document.name}: {target}"
    for target in re.findall(r"`((?:orrery|recipes|docs|benchmarks|tests)/[\w/.-]+)`", text):
        assert (ROOT / target).exists(), f"{document.name}: {target}"


def test_no_document_names_a_path_of_some_machine() -> None:
    for path in [*DOCUMENTS, *RECIPES, ROOT / "CHANGELOG.md"]:
        if path.exists():
            assert not re.search(r"/(work|tmp|root|home)/\w", path.read_text()), path.name
