"""A tokenizer that needs no training, and shard sets made from ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orrery.data.manifest import Split, write_manifest
from orrery.data.shard import Shards
from orrery.data.shard_writer import ShardWriter


class ByteTokenizer:
    """Every byte is its own id; 256 begins a document and 257 ends it."""

    def __init__(self, *, bos: bool = True, eos: bool = True, vocab_size: int = 258) -> None:
        self.bos_id = 256 if bos else None
        self.eos_id = 257 if eos else None
        self.vocab_size = vocab_size
        self.fingerprint = f"bytes-{vocab_size}"

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]


def write_shards(
    folder: Path,
    documents: Sequence[Sequence[int]],
    *,
    split: Split = "train",
    vocab_size: int = 1000,
    **options: Any,
) -> Path:
    """A prepared folder whose one split holds these ids."""
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(folder, split, vocab_size=vocab_size, **options) as writer:
        for i, ids in enumerate(documents):
            writer.add(
                ids,
                n_bytes=10 * len(ids),
                record={"id": f"doc-{i}", "path": f"{folder.name}.txt", "text": f"text {i}"},
            )
    tokenizer = ByteTokenizer(vocab_size=vocab_size)
    write_manifest(
        folder, {split: writer.manifest}, tokenizer=tokenizer, dtype=writer.dtype, start_id=256, eos_id=257
    )
    return folder


@pytest.fixture
def make_shards(tmp_path: Path) -> Callable[..., Shards]:
    """make_shards(documents, name="a", ...) -> Shards."""

    def make(documents: Sequence[Sequence[int]], name: str = "a", **options: Any) -> Shards:
        return Shards(write_shards(tmp_path / name, documents, **options), options.get("split", "train"))

    return make
