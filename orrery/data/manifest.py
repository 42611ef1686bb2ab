"""`data.json`, the head of a prepared folder: counts, dtype, the tokenizer's fingerprint, every file's length and SHA-256."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import sha256_file, write_file
from orrery.kit.json import read_object
from orrery.kit.untrusted import inside, plain_name, stat_regular

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
    if not os.path.lexists(folder / MANIFEST):
        near = suggest(folder.name, [p.name for p in folder.parent.glob("*/")])
        raise OrreryError(
            f"no prepared data at '{folder}' (no {MANIFEST}); make it with `orrery prepare`.{near}"
        )
    manifest = read_object(folder / MANIFEST, what="the head of prepared data")
    found = manifest.get("format")
    if found != FORMAT:
        raise OrreryError(f"'{folder}' was prepared by another version of orrery; prepare it again")
    return manifest


@dataclass(frozen=True, kw_only=True)
class Head:
    """What `data.json` says of one split, its types and ranges checked; `files` maps names to (bytes, SHA-256)."""

    tokenizer: str
    vocab_size: int
    dtype: np.dtype[Any]
    start_id: int | None
    eos_id: int
    documents: int
    tokens: int
    bytes: int
    shards: tuple[str, ...]
    files: dict[str, tuple[int, str]]


def read_head(folder: Path, split: Split) -> Head:
    """What the manifest of a prepared folder says of one split.

    Raises:
        OrreryError: as `read_manifest`, or it contradicts itself or names files that are not its own; names the key.
    """
    head = read_manifest(folder)
    body = _object(_object(head, "splits", folder), split, folder)
    vocab_size = _count(head, "vocab_size", folder, least=1)
    eos_id, start_id = _count(head, "eos_id", folder), head.get("start_id")
    for id in (eos_id, start_id):
        if id is not None and (type(id) is not int or not 0 <= id < vocab_size):
            raise damaged(folder, f"{id!r} is no id below vocab_size {vocab_size}")
    dtype = "<u2" if vocab_size <= 1 << 16 else "<u4"
    if head.get("dtype") != dtype:
        raise damaged(
            folder, f"dtype {str(head.get('dtype'))[:20]!r} is not that of {vocab_size} ids, {dtype!r}"
        )
    shards = body.get("shards")
    if not isinstance(shards, list) or not all(isinstance(name, str) for name in shards):
        raise damaged(folder, "'shards' must list file names")
    if len(set(shards)) < len(shards):
        raise damaged(folder, "a shard is listed twice")
    files: dict[str, tuple[int, str]] = {}
    for name, record in _object(body, "files", folder).items():
        plain_name(name, f"'{folder / MANIFEST}', files")
        sha256 = record.get("sha256") if isinstance(record, dict) else None
        if not isinstance(sha256, str):
            raise damaged(folder, f"the file '{name}' has no SHA-256")
        files[name] = (_count(record, "bytes", folder), sha256)
    if files.keys() != {*shards, f"{split}.index", f"{split}.jsonl"}:
        raise damaged(folder, f"the files of '{split}' are not its shards, index and lineage")
    tokens = _count(body, "tokens", folder)
    stored = sum(files[name][0] for name in shards)
    if stored != tokens * np.dtype(dtype).itemsize:
        raise damaged(
            folder, f"{tokens:,} tokens of {dtype!r} do not take the {stored:,} bytes of the shards"
        )
    return Head(
        tokenizer=str(head.get("tokenizer")),
        vocab_size=vocab_size,
        dtype=np.dtype(dtype),
        start_id=start_id,
        eos_id=eos_id,
        documents=_count(body, "documents", folder),
        tokens=tokens,
        bytes=_count(body, "bytes", folder),
        shards=tuple(shards),
        files=files,
    )


def _object(parent: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise damaged(folder, f"'{key}' is missing")
    return value


def _count(parent: dict[str, Any], key: str, folder: Path, *, least: int = 0) -> int:
    value = parent.get(key)
    if type(value) is not int or not least <= value < 1 << 62:
        raise damaged(folder, f"'{key}' is {str(value)[:40]!r}, no count")
    return value


def damaged(folder: Path, rule: str) -> OrreryError:
    """The error of a prepared folder whose head does not make sense."""
    return OrreryError(f"'{folder / MANIFEST}' is damaged: {rule}; prepare the data again")


def check_file(path: Path, size: int, sha256: str | None) -> None:
    """Refuse a file that is not as it was written; `sha256` None checks its length only.

    Raises:
        OrreryError: names the file.
    """
    if not os.path.lexists(path):
        raise OrreryError(f"the prepared data has lost '{path}'; prepare it again")
    found = stat_regular(inside(path.parent, path.name)).st_size
    if found != size:
        raise OrreryError(f"'{path}' has {found} bytes where {size} were written; prepare the data again")
    if sha256 is not None and sha256_file(path) != sha256:
        raise OrreryError(
            f"'{path}' has changed since it was written (its SHA-256 differs); prepare the data again"
        )
