"""Exhibits: one function each, measuring the shipped code within seconds on two cores.

An exhibit is a public function in a file of this folder that takes nothing and is annotated `-> Exhibit`; its name in
an entry is the function's with dashes (`kv_cache_bytes` -> `kv-cache-bytes`). Listing reads the source and imports
nothing, so torch is loaded only by the exhibit that runs.
"""

from __future__ import annotations

import ast
import functools
import importlib
from dataclasses import dataclass
from pathlib import Path

from orrery.glossary.exhibit import Exhibit
from orrery.kit.errors import OrreryError, suggest


@dataclass(frozen=True)
class Listed:
    """An exhibit as its source shows it: `summary` is the first line of its docstring."""

    name: str
    module: str
    summary: str


@functools.cache
def listed() -> tuple[Listed, ...]:
    """Every exhibit in the order of the files. Two of one name are a fault that `check` reports."""
    found: list[Listed] = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") or node.args.args:
                continue
            if isinstance(node.returns, ast.Name) and node.returns.id == "Exhibit":
                summary = (ast.get_docstring(node) or "").partition("\n")[0]
                found.append(Listed(node.name.replace("_", "-"), f"{__name__}.{path.stem}", summary))
    return tuple(found)


@functools.cache
def names() -> dict[str, Listed]:
    """Exhibits by name."""
    return {exhibit.name: exhibit for exhibit in listed()}


def run(name: str) -> Exhibit:
    """Run one exhibit by name.

    Raises:
        OrreryError: no exhibit of that name.
    """
    if name not in names():
        raise OrreryError(f"no exhibit is named '{name}'.{suggest(name, names())}")
    module = importlib.import_module(names()[name].module)
    result: Exhibit = getattr(module, name.replace("-", "_"))()
    return result
