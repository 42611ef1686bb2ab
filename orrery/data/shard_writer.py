"""Writing token shards: append documents, close, and know every file's length and hash without reading it again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from orrery.data.manifest import INDEX, Split
from orrery.kit.errors import OrreryError


class ShardWriter:
    """Writes one split. Use as a context manager; `manifest` is there after it closes."""

    def __init__(self, folder: Path, split: Split, *, vocab_size: int, shard_tokens: int = 1 << 26) -> None:
        self.split: Split = split
        self.dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        self.manifest: dict[str, Any] = {}
        self._folder, self._vocab_size, self._shard_tokens = folder, vocab_size, shard_tokens
        self._shards: list[_File] = []
        self._index = _File(folder / f"{split}.index")
        self._lineage = _File(folder / f"{split}.jsonl")
        self.documents = self.tokens = self.bytes = 0

    def add(self, ids: npt.ArrayLike, *, n_bytes: int, record: dict[str, Any]) -> None:
        """Append a document: its ids with their separators, the size of its text, and its line of lineage."""
        array = np.asarray(ids)
        if array.size and int(array.max()) >= self._vocab_size:
            raise OrreryError(
                f"document '{record['id']}' has an id beyond the tokenizer's {self._vocab_size} tokens"
            )
        data = array.astype(self.dtype).tobytes()
        room = self._shard_tokens * self.dtype.itemsize
        if not self._shards or (self._shards[-1].size and self._shards[-1].size + len(data) > room):
            if self._shards:
                self._shards[-1].close()
            self._shards.append(_File(self._folder / f"{self.split}-{len(self._shards):05d}.bin"))
        self._shards[-1].write(data)
        self._mark()
        self._lineage.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.documents += 1
        self.tokens += array.size
        self.bytes += n_bytes

    def _mark(self) -> None:
        self._index.write(np.array((self.tokens, self.bytes, self._lineage.size), dtype=INDEX).tobytes())

    def close(self) -> None:
        """Finish the files and fill `manifest`."""
        self._mark()  # one record more than documents: the ends of the last one
        files = [*self._shards, self._index, self._lineage]
        for file in files:
            file.close()
        self.manifest = {
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "shards": [file.path.name for file in self._shards],
            "files": {file.path.name: {"bytes": file.size, "sha256": file.sha256} for file in files},
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _File:
    """An append-only file that knows its length and hash without being read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._handle: IO[bytes] = open(path, "wb")  # noqa: SIM115 - closed by close()

    def write(self, data: bytes) -> None:
        self._handle.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        self._handle.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
