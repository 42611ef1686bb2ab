"""Prepared data in a folder that lives as long as an exhibit: a small tokenizer, and shards of given texts."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orrery.data.prepare import PrepareConfig, Prepared, prepare
from orrery.data.source import FilesSource
from orrery.glossary.exhibits import _library
from orrery.text.config import TokenizerConfig
from orrery.text.tokenizer import Tokenizer
from orrery.text.train import train_tokenizer


@functools.cache
def tokenizer() -> Tokenizer:
    """Byte-level BPE of 1000 tokens, trained on six modules of Python's library."""
    return train_tokenizer(_library.texts()[:12:2], TokenizerConfig(vocab_size=1000))


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def prepared(where: Path, name: str, texts: Sequence[str], **settings: Any) -> Prepared:
    """The texts as JSON lines, prepared into `where / name`."""
    source = where / f"{name}.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    config = PrepareConfig(source=FilesSource(paths=(str(source),)), **settings)
    return prepare(config, tokenizer(), where / name)


def pieces(count: int) -> list[str]:
    """Pieces of library modules between two blank lines: `count` documents of 40 characters and more, all different."""
    parts = (part.strip() for text in _library.texts() for part in text.split("\n\n\n"))
    return list(dict.fromkeys(part for part in parts if len(part) > 40))[:count]
