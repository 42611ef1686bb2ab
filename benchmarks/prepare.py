"""Claim: preparing data is at least as fast as the tokenizers library's batch encoding alone, in flat memory.

    python benchmarks/prepare.py [PATHS ...] [--vocab 8192] [--rounds 5]

Ours is the whole of `prepare`: read the files, clean, drop duplicates, split, encode, check, hash, write shards and fsync.
The peer's time is only `Tokenizer.encode_batch_fast` on texts that are already in memory. Both take turns on the same
files with the same vocabulary and as many threads as they like. Without PATHS the text is the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import tokenizers
from rich.console import Console
from rich.table import Table

from orrery.data.prepare import BATCH_CHARS, PrepareConfig, prepare
from orrery.data.source import FilesSource, StdlibSource, read_documents
from orrery.text import Tokenizer
from orrery.text.config import TokenizerConfig
from orrery.text.train import train_tokenizer

COPIES = 4


def main() -> None:
    """Time both in turn, then measure the memory of ours for one and for four times the text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    source = FilesSource(paths=tuple(options.paths)) if options.paths else StdlibSource()
    texts = [document.text for document in read_documents(source)]
    size = sum(len(text.encode()) for text in texts)
    batches = list(parts(texts))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = train_tokenizer(iter(texts), TokenizerConfig(vocab_size=options.vocab))
        tokenizer.save(folder / "tokenizer")
        peer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
        contenders: dict[str, Callable[[], object]] = {
            "orrery prepare": lambda: prepare(PrepareConfig(source=source), tokenizer, folder / "out"),
            "tokenizers encode_batch_fast": lambda: [
                peer.encode_batch_fast(part, add_special_tokens=False) for part in batches
            ],
            "orrery encode_batch": lambda: [tokenizer.encode_batch(part) for part in batches],
        }
        speeds = race(contenders, size, options.rounds)
        memory = {times: peak_memory(folder, texts, times) for times in (1, COPIES)}
    if options.json:
        print(
            json.dumps(
                {"bytes": size, "documents": len(texts), "megabytes_per_s": speeds, "peak_bytes": memory}
            )
        )
        return
    show(size, len(texts), tokenizer.vocab_size, speeds, memory)


def race(contenders: dict[str, Callable[[], object]], size: int, rounds: int) -> dict[str, list[float]]:
    """Megabytes a second of each contender in each round; they take turns, and one round before is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if i:
                speeds[name].append(size / 1e6 / (time.perf_counter() - began))
    return speeds


def parts(texts: list[str]) -> Iterator[list[str]]:
    """The batches that `prepare` makes, so that the peer holds no more encodings alive than it must."""
    part: list[str] = []
    chars = 0
    for text in texts:
        part.append(text)
        chars += len(text)
        if chars >= BATCH_CHARS:
            yield part
            part, chars = [], 0
    if part:
        yield part


def peak_memory(folder: Path, texts: list[str], times: int) -> int:
    """Peak resident bytes of a process that prepares `times` the text (every copy made different, so none is dropped)."""
    corpus = folder / f"corpus-{times}"
    corpus.mkdir()
    for copy in range(times):
        for i, text in enumerate(texts):
            (corpus / f"{copy}-{i:06d}.txt").write_text(f"copy {copy}\n{text}", encoding="utf-8")
    command = [
        sys.executable,
        __file__,
        "--child",
        str(corpus),
        str(folder / "tokenizer"),
        str(folder / "memory"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(corpus)
    return int(done.stdout)


def child(corpus: str, tokenizer: str, out: str) -> None:
    """What `peak_memory` runs: prepare, and print this process's own peak (ru_maxrss would count the parent's too)."""
    prepare(PrepareConfig(source=FilesSource(paths=(corpus,))), Tokenizer.load(tokenizer), out)
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)


def show(
    size: int, documents: int, vocab: int, speeds: dict[str, list[float]], memory: dict[int, int]
) -> None:
    """Print the tables."""
    console = Console()
    table = Table(title=f"{size / 1e6:.1f} MB, {documents} documents, vocabulary {vocab}")
    for column in ("", "MB/s (median)", "min", "max", "x the peer"):
        table.add_column(column, justify="left" if not column else "right")
    peer = speeds["tokenizers encode_batch_fast"]
    for name, runs in speeds.items():
        ratio = statistics.median(mine / theirs for mine, theirs in zip(runs, peer, strict=True))
        middle, least, most = (f"{f(runs):.2f}" for f in (statistics.median, min, max))
        table.add_row(name, middle, least, most, f"{ratio:.2f}")
    console.print(table)
    first, last = memory[1], memory[COPIES]
    console.print(
        f"peak memory of prepare: {first / 1e6:.0f} MB for the text, {last / 1e6:.0f} MB for {COPIES} times the text "
        f"(x {last / first:.2f})"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
