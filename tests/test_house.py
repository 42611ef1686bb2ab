"""Rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "orrery").rglob("*.py"))


def test_no_file_is_longer_than_a_reader_bears() -> None:
    long = {str(f.relative_to(ROOT)): n for f in FILES if (n := len(f.read_text().splitlines())) > 400}
    assert not long


def test_every_module_says_what_it_is() -> None:
    silent = [str(f.relative_to(ROOT)) for f in FILES if not ast.get_docstring(ast.parse(f.read_text()))]
    assert not silent


def test_nothing_unpickles() -> None:
    """Weights are data: nothing that could run code from a file is ever called."""
    found = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module]
                    if isinstance(node, ast.ImportFrom)
                    else [alias.name for alias in node.names]
                )
                found += [str(file) for name in names if name in ("pickle", "dill", "joblib", "shelve")]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                found.append(str(file))
    assert not found


@pytest.mark.parametrize("module", ["orrery", "orrery.cli", "orrery.kit.config", "orrery.text"])
def test_importing_costs_no_torch(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules, 'torch was imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
