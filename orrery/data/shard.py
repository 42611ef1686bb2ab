"""Token shards: documents end to end in flat binary files, with an index that says where each begins.

    train-00000.bin ...   ids, little-endian uint16 or uint32; a document never crosses two files
    train.index           one record a document: first token, size in bytes of its text, place in the lineage file
    train.jsonl           one line a document: its id, the file it came from (and its text, in the held-out split)
    data.json             counts, dtype, the tokenizer's fingerprint, length and SHA-256 of every file

Everything is memory-mapped: opening costs the same for a megabyte and for a terabyte, except for the check of the
hashes, which reads every byte once and can be switched off.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orrery.data.manifest import INDEX, Fingerprinted, Split, check_file, damaged, read_head
from orrery.kit.config import digest
from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.untrusted import open_regular

SAMPLE, BLOCK = 1 << 16, 1 << 22
"""Ids of a shard to look at when its hash is not checked, and at a time."""

Ids = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, kw_only=True)
class DocumentInfo:
    """Where a document of a shard set came from. `bytes` is the size of its cleaned text in UTF-8."""

    id: str
    path: str
    bytes: int
    tokens: int


class Shards:
    """One split of a prepared folder, read without loading it.

    Attributes:
        tokenizer: fingerprint of the tokenizer that made the ids.
        start_id: the id every document begins with (context only, never a target), or None.
        eos_id: the id every document ends with.
        fingerprint: digest of all of it; equal fingerprints mean equal tokens.

    Raises:
        OrreryError: not a prepared folder, no such split, or a file that is missing, cut short or changed.
    """

    def __init__(self, folder: str | Path, split: Split = "train", *, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.split = split
        self.name = self.folder.name
        head = read_head(self.folder, split)
        self.tokenizer, self.vocab_size = head.tokenizer, head.vocab_size
        self.start_id, self.eos_id = head.start_id, head.eos_id
        self.n_documents, self.n_tokens, self.n_bytes = head.documents, head.tokens, head.bytes
        for name, (size, sha256) in head.files.items():
            check_file(self.folder / name, size, sha256 if verify else None)
        self._data = [_map(self.folder / name, head.dtype) for name in head.shards]
        self._bounds = np.cumsum([0, *(len(data) for data in self._data)]).tolist()
        self._index = _map(self.folder / f"{split}.index", INDEX)
        self._check_index(head.files[f"{split}.jsonl"][0], whole=verify)
        self._check_ids(whole=verify)
        files = {name: {"bytes": size, "sha256": sha256} for name, (size, sha256) in head.files.items()}
        self.fingerprint = digest([self.tokenizer, self.start_id, self.eos_id, files])

    def __len__(self) -> int:
        return self.n_documents

    def __getitem__(self, document: int) -> Ids:
        """All ids of a document, separators included: (n,) uint16 or uint32, a read-only view of the file."""
        if not 0 <= document < self.n_documents:
            raise IndexError(f"document {document} of {self.n_documents}")
        first, last = self._index["token"][document : document + 2].tolist()
        shard = bisect.bisect_right(self._bounds, first) - 1
        return self._data[shard][first - self._bounds[shard] : last - self._bounds[shard]]

    def __iter__(self) -> Iterator[Ids]:
        return (self[i] for i in range(len(self)))

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every document, separators included: (documents,) int64."""
        return np.diff(self._index["token"].astype(np.int64))

    def info(self, document: int) -> DocumentInfo:
        """Id and origin of a document, and its sizes."""
        record = self._record(document)
        here, after = self._index[document], self._index[document + 1]
        return DocumentInfo(
            id=record["id"],
            path=record["path"],
            bytes=int(after["byte"] - here["byte"]),
            tokens=int(after["token"] - here["token"]),
        )

    def text(self, document: int) -> str:
        """The cleaned text of a document of the held-out split.

        Raises:
            OrreryError: the training split, whose texts are not kept.
        """
        record = self._record(document)
        if "text" not in record:
            raise OrreryError(
                f"the '{self.split}' split of '{self.folder}' keeps ids only; texts are kept in 'heldout'"
            )
        return record["text"]

    def require(self, tokenizer: Fingerprinted) -> None:
        """Refuse a tokenizer (or a model's tokenizer) other than the one that made these ids.

        Raises:
            OrreryError: the vocabularies differ.
        """
        if tokenizer.fingerprint != self.tokenizer:
            raise OrreryError(
                f"'{self.folder}' was prepared with another tokenizer ({self.tokenizer[:12]}, {self.vocab_size} ids) than "
                f"this one ({tokenizer.fingerprint[:12]}, {tokenizer.vocab_size} ids); prepare the data again with it"
            )

    def _check_index(self, lineage_bytes: int, *, whole: bool) -> None:
        """The index begins at 0, ends at the totals, cuts where the shards do, and (looked at whole) never falls."""
        name, index = f"{self.split}.index", self._index
        if len(index) != self.n_documents + 1:
            raise damaged(
                self.folder, f"{name} has {len(index):,} records for {self.n_documents:,} documents"
            )
        for column, end in {"token": self.n_tokens, "byte": self.n_bytes, "line": lineage_bytes}.items():
            rises = int(index[0][column]) == 0 and int(index[-1][column]) == end
            for at in range(0, len(index) if whole else 0, BLOCK):
                values = index[column][at : at + BLOCK + 1]
                rises = rises and not bool((values[1:] < values[:-1]).any())
            if not rises:
                raise damaged(self.folder, f"the column '{column}' of {name} does not rise from 0 to {end:,}")
        for bound in self._bounds:
            at = bisect.bisect_left(index, bound, key=lambda record: int(record["token"]))
            if at == len(index) or int(index[at]["token"]) != bound:
                raise damaged(self.folder, f"{name} has a document that lies in two shards")

    def _check_ids(self, *, whole: bool) -> None:
        """Every id, or those of a sample from each shard, is below the vocabulary size."""
        for data in self._data:
            step = 1 if whole else max(1, len(data) // SAMPLE)
            largest = max(
                (int(data[at : at + BLOCK : step].max()) for at in range(0, len(data), BLOCK)), default=0
            )
            if largest >= self.vocab_size:
                raise damaged(
                    self.folder, f"a shard holds the id {largest}, but there are {self.vocab_size} ids"
                )

    def _record(self, document: int) -> dict[str, Any]:
        first, last = self._index["line"][document : document + 2].tolist()
        with open_regular(self.folder / f"{self.split}.jsonl") as handle:
            handle.seek(first)
            return self._parsed(handle.read(last - first), document)

    def _parsed(self, line: bytes, document: int) -> dict[str, Any]:
        try:
            record = parse_json(line)
        except JsonFault as error:
            record = str(error)
        if not isinstance(record, dict) or not {"id", "path"} <= record.keys():
            raise OrreryError(
                f"'{self.folder / self.split}.jsonl' is damaged at document {document}; prepare the data again"
            )
        return record


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A held-out document: what evaluation needs to give bits per byte.

    `ids` begin with the shard set's start_id (when it has one) and end with its eos_id; `n_bytes` is the size of `text`.
    """

    id: str
    ids: Ids
    n_bytes: int
    text: str


def heldout_documents(folder: str | Path, *, verify: bool = True) -> Iterator[HeldOut]:
    """The held-out documents of a prepared folder, in order, with their texts."""
    shards = Shards(folder, "heldout", verify=verify)
    for i in range(len(shards)):
        info = shards.info(i)
        yield HeldOut(id=info.id, ids=shards[i], n_bytes=info.bytes, text=shards.text(i))


def _map(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    # np.asarray drops the memmap subclass, whose every slice costs microseconds; the mapping stays alive as its base.
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise OrreryError(
            f"'{path}' has {size:,} bytes, no whole number of items of {dtype.itemsize}; prepare the data again"
        )
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")) if size else np.empty(0, dtype)
