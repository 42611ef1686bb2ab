"""The receipt: what every artifact says about how it was made.

An artifact is a folder with an `orrery.json`. Its id is the SHA-256 of what it is made from (operation, resolved
recipe, parents' ids) and of what it holds (the files' hashes), so equal ids mean equal bytes from equal settings.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import sha256_file, write_file

RECEIPT = "orrery.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Parent:
    """An artifact this one was made from: the part it played, its id, and where it was (relative to the child)."""

    role: str
    id: str
    path: str
    operation: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """How an artifact was made. `effects` is what the step did (losses, counts, KL ...), measured."""

    kind: str
    operation: str
    recipe: dict[str, Any] = field(default_factory=dict)
    parents: tuple[Parent, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    surgery: list[dict[str, Any]] = field(default_factory=list)
    effects: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    id: str = ""


def write_receipt(
    folder: str | Path,
    *,
    kind: str,
    operation: str,
    recipe: Any = None,
    parents: dict[str, Path] | None = None,
    data: dict[str, Any] | None = None,
    surgery: list[dict[str, Any]] | None = None,
    effects: dict[str, Any] | None = None,
    home: Path | None = None,
    skip: tuple[str, ...] = (),
) -> Receipt:
    """Hash the files in `folder` and write its `orrery.json` (call inside `atomic_folder`).

    Args:
        parents: role -> folder of each parent artifact.
        home: where the folder will finally stand, so that parents' relative paths are right.
        skip: names of files or sub-folders that are not part of the artifact (checkpoints, logs).
    """
    folder = Path(folder)
    home = Path(home or folder)
    known = tuple(
        Parent(
            role=role,
            id=receipt.id,
            operation=receipt.operation,
            path=os.path.relpath(path.resolve(), home.resolve()),
        )
        for role, path in (parents or {}).items()
        for receipt in [read_receipt(path)]
    )
    files = {
        str(item.relative_to(folder)): {"sha256": sha256_file(item), "bytes": item.stat().st_size}
        for item in sorted(folder.rglob("*"))
        if item.is_file() and item.name != RECEIPT and item.relative_to(folder).parts[0] not in skip
    }
    body = {
        "kind": kind,
        "operation": operation,
        "recipe": to_dict(recipe) or {},
        "parents": [to_dict(parent) for parent in known],
        "data": data or {},
        "surgery": surgery or [],
        "effects": effects or {},
        "files": files,
    }
    identity = {k: body[k] for k in ("kind", "operation", "recipe", "surgery", "files")}
    identity["parents"] = [[parent.role, parent.id] for parent in known]
    body["id"] = digest(identity)
    body["environment"] = environment()
    body["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_file(folder / RECEIPT, json.dumps({"format": FORMAT, **body}, indent=2) + "\n")
    return _parse(body)


def read_receipt(folder: str | Path) -> Receipt:
    """The receipt of the artifact in `folder`.

    Raises:
        OrreryError: there is none, or it is damaged.
    """
    path = Path(folder) / RECEIPT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise OrreryError(f"'{path}' was written by another version of orrery; make the artifact again")
        return _parse(data)
    except FileNotFoundError:
        raise OrreryError(
            f"'{folder}' has no {RECEIPT}: it was not made by orrery, or its making did not finish"
        ) from None
    except OSError as error:
        raise OrreryError(f"cannot read '{path}': {error.strerror}") from None
    except OrreryError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise OrreryError(f"'{path}' is damaged; make the artifact again") from None


def verify(folder: str | Path) -> list[str]:
    """Names of files that differ from the receipt (changed, missing); empty when the artifact is whole."""
    folder = Path(folder)
    wrong = []
    for name, record in read_receipt(folder).files.items():
        path = folder / name
        if (
            not path.is_file()
            or path.stat().st_size != record["bytes"]
            or sha256_file(path) != record["sha256"]
        ):
            wrong.append(name)
    return wrong


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """One line of a lineage: an artifact, where it stands in the tree, and whether it is still there unchanged."""

    depth: int
    role: str
    path: Path
    id: str
    operation: str
    receipt: Receipt | None
    state: str


def lineage(folder: str | Path) -> list[Ancestor]:
    """The artifact and all it descends from, depth first; parents that are gone or were made anew are marked."""
    folder = Path(folder)
    receipt = read_receipt(folder)
    state = "here" if not verify(folder) else "changed since it was made"
    first = Ancestor(
        depth=0,
        role="",
        path=folder,
        id=receipt.id,
        operation=receipt.operation,
        receipt=receipt,
        state=state,
    )
    return [first, *_ancestors(folder, receipt, 1)]


def _ancestors(folder: Path, receipt: Receipt, depth: int) -> list[Ancestor]:
    found: list[Ancestor] = []
    for parent in receipt.parents:
        path = Path(os.path.normpath(folder / parent.path))
        known: Receipt | None
        try:
            known = read_receipt(path)
            state = "here" if known.id == parent.id else "replaced by another"
        except OrreryError:
            known, state = None, "gone"
        found.append(
            Ancestor(
                depth=depth, role=parent.role, path=path, id=parent.id, operation=parent.operation,
                receipt=known if state == "here" else None, state=state,
            )
        )  # fmt: skip
        if known is not None and state == "here":
            found += _ancestors(path, known, depth + 1)
    return found


@cache
def environment() -> dict[str, Any]:
    """What ran: versions, platform, and the commit of the code when it stands in a git checkout."""
    names = ("orrery-lm", "torch", "numpy", "tokenizers", "safetensors")
    versions: dict[str, str] = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "commit": _commit(),
        "argv": sys.argv[1:],
    }


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        return head.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _parse(data: dict[str, Any]) -> Receipt:
    data = dict(data)
    data["parents"] = tuple(Parent(**parent) for parent in data["parents"])
    return Receipt(**data)
