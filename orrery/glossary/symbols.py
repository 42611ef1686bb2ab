"""Code that an entry points at: `package.module:Name.attribute`, never a line number.

`locate` finds the file and line by reading the source (nothing is imported, so torch need not be); `resolve` imports.
"""

from __future__ import annotations

import ast
import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orrery
from orrery.kit.errors import OrreryError

PACKAGE = Path(orrery.__file__).parent


@dataclass(frozen=True)
class Location:
    """Where a symbol is defined; `file` is relative to the folder that holds the package."""

    symbol: str
    file: str
    line: int


def locate(symbol: str) -> Location:
    """File and line of a symbol.

    Raises:
        OrreryError: no such module or no such name in it.
    """
    module, _, dotted = symbol.partition(":")
    path = _module_file(module, symbol)
    body: list[ast.stmt] = _tree(path).body
    line = 1
    for depth, name in enumerate(part for part in dotted.split(".") if part):
        node = _definition(body, name)
        if node is None and depth == 0 and (elsewhere := _imported_from(body, name, module)):
            return Location(symbol, *_place(locate(elsewhere + dotted.removeprefix(name))))
        if node is None:
            raise OrreryError(f"'{symbol}' does not resolve: {path.name} has no '{name}'")
        line = node.lineno
        body = node.body if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
    return Location(symbol, path.relative_to(PACKAGE.parent).as_posix(), line)


def resolve(symbol: str) -> Any:
    """The object itself. An attribute that only instances have (set in `__init__`) gives the class that sets it.

    Raises:
        OrreryError: the import fails or a name is missing.
    """
    module, _, dotted = symbol.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise OrreryError(f"'{symbol}' does not resolve: {error}") from None
    for name in (part for part in dotted.split(".") if part):
        missing = object()
        value = getattr(found, name, missing)
        if value is missing:
            if isinstance(found, type) and locate(symbol):
                return found
            raise OrreryError(f"'{symbol}' does not resolve: no '{name}'")
        found = value
    return found


def _place(location: Location) -> tuple[str, int]:
    return location.file, location.line


def _module_file(module: str, symbol: str) -> Path:
    parts = module.split(".")
    base = PACKAGE.joinpath(*parts[1:])
    for path in (base.with_suffix(".py") if len(parts) > 1 else base, base / "__init__.py"):
        if parts[0] == PACKAGE.name and path.is_file():
            return path
    raise OrreryError(f"'{symbol}' does not resolve: there is no module {module}")


@functools.lru_cache(maxsize=64)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _definition(body: list[ast.stmt], name: str) -> ast.stmt | None:
    """The statement that binds `name` here: def, class, assignment, or `self.name = ...` in a method."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return node
        if any(isinstance(target, ast.Name) and target.id == name for target in _targets(node)):
            return node
        if isinstance(node, ast.If | ast.Try) and (inner := _definition(node.body, name)):
            return inner
    for method in (node for node in body if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(method):
            if any(isinstance(target, ast.Attribute) and target.attr == name for target in _targets(node)):
                return node  # type: ignore[return-value]
    return None


def _targets(node: ast.AST) -> list[ast.expr]:
    """What an assignment binds, tuples taken apart."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [e for target in targets for e in (target.elts if isinstance(target, ast.Tuple) else [target])]


def _imported_from(body: list[ast.stmt], name: str, module: str) -> str | None:
    """`other.module:original` when `name` is imported here from our own package."""
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE.name):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}:{alias.name}"
    return None
