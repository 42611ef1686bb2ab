"""Raw text -> token shards: read, clean, drop duplicates, split, tokenise, write; one pass, flat memory.

    prepare(PrepareConfig(source=FilesSource(paths=("books/",))), tokenizer, "runs/data")

Reading and cleaning run one batch ahead of the tokenizer, whose own threads leave Python's lock free. The folder appears
whole or not at all, and says in stats.json where every document and byte went.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from orrery.data.accounting import PrepareAccount
from orrery.data.clean import CleanConfig, clean
from orrery.data.cut import Document
from orrery.data.dedup import Seen, document_hash
from orrery.data.manifest import Fingerprinted, Split, write_manifest
from orrery.data.prefetch import prefetch
from orrery.data.shard_writer import ShardWriter
from orrery.data.source import Meter, Source, StdlibSource, read_documents
from orrery.data.split import parts_of_few, split
from orrery.kit.artifact import write_receipt
from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_folder, write_file
from orrery.kit.log import Progress, Silent

STATS = "stats.json"
BATCH_CHARS = 1 << 22
BATCH_DOCUMENTS = 1 << 14


class Encoder(Fingerprinted, Protocol):
    """What preparing needs of a tokenizer."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    def encode_batch(self, texts: Sequence[str]) -> Sequence[npt.NDArray[Any] | list[int]]: ...


@config
class PrepareConfig:
    """What is read and how it becomes training data.

    Attributes:
        heldout: the part of the documents that is kept from training (by hash, so it is met roughly).
        seed: of the split.
        start: the id before every document, so that its first token is predicted too: the tokenizer's "bos"; its "eos"
            (as GPT-2 does); "auto" is BOS where the tokenizer has one, else EOS; "none" writes nothing there.
        shard_tokens: tokens in a shard file at most (a longer document gets a file of its own).
    """

    source: Source = StdlibSource()
    clean: CleanConfig = CleanConfig()
    dedup: bool = True
    heldout: float = 0.05
    seed: int = 0
    start: Literal["auto", "bos", "eos", "none"] = "auto"
    shard_tokens: int = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the shards are, and the account of how they came to be."""

    folder: Path
    account: PrepareAccount


@dataclass(frozen=True, slots=True)
class Kept:
    """A document that will be tokenised: where it came from, its cleaned text, and that text's size in UTF-8."""

    document: Document
    text: str
    n_bytes: int


def prepare(
    config: PrepareConfig,
    tokenizer: Encoder,
    out: str | Path,
    *,
    parents: dict[str, Path] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write the shards of both splits, their index, `stats.json` and the receipt into the new folder `out`.

    Args:
        parents: folders of the artifacts this one is made from (the tokenizer's), for the receipt.
        progress: told of bytes read, as they lie on disk.

    Raises:
        OrreryError: input that cannot be read, nothing left to learn from, too little text to hold any out, a
            tokenizer without an end-of-text token, or a folder that cannot be written. Nothing is left behind.
    """
    out, meter, account = Path(out), Meter(), PrepareAccount()
    progress = progress or Silent()
    start_id, eos_id = separators(tokenizer, config.start)
    with atomic_folder(out) as folder:
        writers: dict[Split, ShardWriter] = {
            name: ShardWriter(folder, name, vocab_size=tokenizer.vocab_size, shard_tokens=config.shard_tokens)
            for name in ("train", "heldout")
        }
        with writers["train"], writers["heldout"]:
            for batch in prefetch(_batches(kept_documents(config, meter, account)), depth=1):
                encoded = tokenizer.encode_batch([item.text for _, item in batch])
                for (side, item), ids in zip(batch, encoded, strict=True):
                    document = _separated(ids, start_id, eos_id)
                    account.tokenised(len(ids), len(document) - len(ids))
                    _write(writers[side], item, document, keep_text=side == "heldout")
                progress.update(meter.done, meter.total, documents=account.kept_documents, unit="bytes")
        account.finish(writers)
        _require_enough(writers, config, account)
        write_manifest(
            folder,
            {name: writer.manifest for name, writer in writers.items()},
            tokenizer=tokenizer,
            dtype=writers["train"].dtype,
            start_id=start_id,
            eos_id=eos_id,
        )
        write_file(folder / STATS, json.dumps(account.as_dict(), indent=2) + "\n")
        write_receipt(
            folder,
            kind="data",
            operation="prepare",
            recipe=config,
            parents=parents,
            effects=account.as_dict(),
            home=out,
        )
    return Prepared(folder=out, account=account)


def separators(tokenizer: Encoder, start: Literal["auto", "bos", "eos", "none"]) -> tuple[int | None, int]:
    """The ids before and after every document.

    Raises:
        OrreryError: the tokenizer lacks the token.
    """
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    if eos is None:
        raise OrreryError(
            "the tokenizer has no end-of-text token, which must part the documents; give it an EOS token"
        )
    if start == "bos" and bos is None:
        raise OrreryError("the tokenizer has no BOS token; use start: eos, or none")
    choice = {"auto": eos if bos is None else bos, "bos": bos, "eos": eos, "none": None}
    return choice[start], eos


def kept_documents(
    config: PrepareConfig, meter: Meter, account: PrepareAccount
) -> Iterator[tuple[Split, Kept]]:
    """Documents that are kept, each with its side; every other is counted."""
    documents = read_documents(config.source, meter, account.skip)
    return split(
        _unique(parts_of_few(documents, config.heldout), config, account), config.heldout, seed=config.seed
    )


def _unique(
    documents: Iterable[Document], config: PrepareConfig, account: PrepareAccount
) -> Iterator[tuple[bytes, Kept]]:
    seen = Seen()
    for document in documents:
        cleaned = clean(document.text, config.clean)
        account.read(cleaned)
        if cleaned.reason:
            account.drop(cleaned.reason, cleaned)
            continue
        hash = document_hash(cleaned.data)
        if config.dedup and not seen.add(hash):
            account.drop("duplicate", cleaned)
            continue
        account.keep(cleaned)
        yield hash, Kept(document, cleaned.text, len(cleaned.data))


def _batches(items: Iterable[tuple[Split, Kept]]) -> Iterator[list[tuple[Split, Kept]]]:
    """Runs of items of a bounded size: enough to keep the tokenizer's threads busy, little enough to forget."""
    batch: list[tuple[Split, Kept]] = []
    chars = 0
    for item in items:
        batch.append(item)
        chars += len(item[1].text)
        if chars >= BATCH_CHARS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _separated(
    ids: npt.NDArray[Any] | list[int], start_id: int | None, eos_id: int
) -> npt.NDArray[np.uint32]:
    first = start_id is not None
    document = np.empty(first + len(ids) + 1, dtype=np.uint32)
    if start_id is not None:
        document[0] = start_id
    document[first:-1] = ids
    document[-1] = eos_id
    return document


def _write(writer: ShardWriter, item: Kept, ids: npt.NDArray[np.uint32], *, keep_text: bool) -> None:
    record: dict[str, Any] = {"id": item.document.name, "path": item.document.path}
    if keep_text:
        record["text"] = item.text
    writer.add(ids, n_bytes=item.n_bytes, record=record)


def _require_enough(
    writers: dict[Split, ShardWriter], config: PrepareConfig, account: PrepareAccount
) -> None:
    if not writers["train"].documents:
        raise OrreryError(f"no text is left to learn from: {account.summary()}")
    if config.heldout and not writers["heldout"].documents:
        raise OrreryError(
            f"the text is too little to hold any of it out ({writers['train'].bytes} bytes); give more text, or set heldout: 0"
        )
