"""Exhibits: one function each, measuring the shipped code within seconds on two cores.

An exhibit is a public function in a file of this folder that takes nothing and is annotated `-> Exhibit`; its name in
an entry is the function's with dashes (`kv_cache_bytes` -> `kv-cache-bytes`). Listing reads the source and imports
nothing, so torch is loaded only by the exhibit that runs.
"""

from __future__ import annotations

import ast
import functools
import importlib
from pathlib import Path

from orrery.glossary.exhibit import Exhibit
from orrery.kit.errors import OrreryError, suggest


@functools.cache
def names() -> dict[str, tuple[str, str]]:
    """Exhibit name -> (module, first line of its docstring), in the order of the files.

    Raises:
        OrreryError: two exhibits with one name.
    """
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = f"{__name__}.{path.stem}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if not isinstance(node.returns, ast.Name) or node.returns.id != "Exhibit" or node.args.args:
                continue
            name = node.name.replace("_", "-")
            if name in found:
                raise OrreryError(f"two exhibits are named '{name}': in {found[name][0]} and in {module}")
            found[name] = (module, (ast.get_docstring(node) or "").partition("\n")[0])
    return found


def run(name: str) -> Exhibit:
    """Run one exhibit by name.

    Raises:
        OrreryError: no exhibit of that name.
    """
    if name not in names():
        raise OrreryError(f"no exhibit is named '{name}'.{suggest(name, names())}")
    module = importlib.import_module(names()[name][0])
    result: Exhibit = getattr(module, name.replace("-", "_"))()
    return result
