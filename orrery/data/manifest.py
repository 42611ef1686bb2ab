"""`data.json`, the head of a prepared folder: counts, dtype, the tokenizer's fingerprint, every file's length and SHA-256."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import sha256_file, write_file

MANIFEST = "data.json"
FORMAT = 1
INDEX = np.dtype([("token", "<u8"), ("byte", "<u8"), ("line", "<u8")])
"""One record a document in `<split>.index`, and one more at the end: first token, first byte of text, first byte of lineage."""

Split = Literal["train", "heldout"]


class Fingerprinted(Protocol):
    """What shards need to know of a tokenizer: which one it is, and how many ids it has."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...


def write_manifest(
    folder: Path,
    splits: dict[Split, dict[str, Any]],
    *,
    tokenizer: Fingerprinted,
    dtype: np.dtype[Any],
    start_id: int | None,
    eos_id: int,
) -> None:
    """Write `data.json` over what the closed writers of the splits say of their files."""
    manifest = {
        "format": FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "dtype": dtype.str,
        "start_id": start_id,
        "eos_id": eos_id,
        "splits": splits,
    }
    write_file(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What `data.json` holds.

    Raises:
        OrreryError: no prepared folder there, or one that another version wrote, or a damaged one.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = manifest["format"]
    except FileNotFoundError:
        near = suggest(folder.name, [p.name for p in folder.parent.glob("*/")])
        raise OrreryError(
            f"no prepared data at '{folder}' (no {MANIFEST}); make it with `orrery prepare`.{near}"
        ) from None
    except OSError as error:
        raise OrreryError(f"cannot read '{folder / MANIFEST}': {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise damaged(folder) from None
    if found != FORMAT:
        raise OrreryError(f"'{folder}' was prepared by another version of orrery; prepare it again")
    return manifest


def damaged(folder: Path) -> OrreryError:
    """The error of a prepared folder whose head does not make sense."""
    return OrreryError(f"'{folder / MANIFEST}' is damaged; prepare the data again")


def check_file(path: Path, size: int, sha256: str | None) -> None:
    """Refuse a file that is not as it was written; `sha256` None checks its length only.

    Raises:
        OrreryError: names the file.
    """
    if not path.is_file():
        raise OrreryError(f"the prepared data has lost '{path}'; prepare it again")
    found = path.stat().st_size
    if found != size:
        raise OrreryError(f"'{path}' has {found} bytes where {size} were written; prepare the data again")
    if sha256 is not None and sha256_file(path) != sha256:
        raise OrreryError(
            f"'{path}' has changed since it was written (its SHA-256 differs); prepare the data again"
        )
