"""Training speed on a CPU: orrery against a plain PyTorch GPT loop (eager, compiled) and the transformers Trainer.

    python benchmarks/train_cpu.py [--rounds 5] [--steps 4] [--no-compile]

The same shape, the same number of real tokens, fp32, each in a process of its own, in turn: each round gives everybody a few
steps while the others wait, so a machine whose speed drifts slows all alike, and the ratios are taken within rounds. Two tables: rows of equal length, and
documents of their natural lengths (up to the context), where the Trainer pads and orrery does not. A third line shows orrery
in bf16 where `orrery doctor` finds it fast; the peers stay in fp32, so it is not a like-for-like ratio.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from peers import HuggingFace, PlainLoop, Shape

from orrery.data.batch import Batch
from orrery.data.source import StdlibSource, read_documents
from orrery.kit.log import console, read_jsonl
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.positions import Learned
from orrery.text.config import TokenizerConfig
from orrery.text.train import train_tokenizer
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.loop import train
from orrery.train.monitor import matmul_peak
from orrery.train.optim.config import AdamW
from orrery.train.precision import bf16_is_fast


@dataclass
class Rows:
    """Batches of given rows, as orrery's loop asks for them: whole rows end to end, one weight a target."""

    rows: list[np.ndarray]
    per_step: int
    first: int = 0
    fingerprint: str = "benchmark"
    rank: int = 0
    world: int = 1
    config: Any = field(default_factory=lambda: SimpleNamespace(micro_batches=1))

    def batch(self, step: int, micro: int = 0) -> Batch:
        at = self.first + step * self.per_step
        picked = [self.rows[(at + i) % len(self.rows)] for i in range(self.per_step)]
        ids = [torch.from_numpy(row.astype(np.int64)) for row in picked]
        tokens = torch.cat([row[:-1] for row in ids])
        targets = torch.cat([row[1:] for row in ids])
        return Batch(
            tokens=tokens, targets=targets, weights=torch.ones(len(tokens)), lengths=tuple(len(row) - 1 for row in ids)
        )  # fmt: skip


class Ours:
    """The real training loop, with everything it always does: checks, metrics, utilisation, the final checkpoint."""

    def __init__(
        self, s: Shape, rows: list[np.ndarray], *, precision: str = "fp32", compiled: bool = False
    ) -> None:
        self.s, self.rows, self.precision, self.compiled = s, rows, precision, compiled
        self.model = Decoder(
            DecoderConfig(
                vocab_size=s.vocab, d_model=s.width, n_layers=s.layers, n_heads=s.heads, norm="layernorm",
                position=Learned(max_positions=s.context), attention_bias=True, output_bias=True,
                feed_forward=Mlp(d_ff=4 * s.width, activation="gelu", gated=False, bias=True), max_positions=s.context,
            )
        )  # fmt: skip
        self.next = 0

    def round(self, steps: int) -> list[float]:
        loader = Rows(self.rows, self.s.rows, first=self.next)
        self.next += steps * self.s.rows
        cfg = TrainConfig(
            steps=steps, optimizer=AdamW(lr=3e-4, weight_decay=0.1), precision=self.precision, compile=self.compiled,
            checkpoint=CheckpointConfig(every_seconds=None), validate_every=None, sample_every=None,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            train(cfg, model=self.model, loader=loader, out=Path(folder) / "run")
            marks = [row["seconds"] for row in read_jsonl(Path(folder) / "run" / "metrics.jsonl")]
        return [b - a for a, b in itertools.pairwise(marks)]


def corpus(vocab: int) -> list[np.ndarray]:
    """Documents of the standard library as ids."""
    texts = [document.text for document in read_documents(StdlibSource())]
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=vocab))
    eos = tokenizer.eos_id
    return [np.append(np.asarray(ids), eos) for ids in tokenizer.encode_batch(texts)]


def equal_rows(documents: list[np.ndarray], context: int) -> list[np.ndarray]:
    """The stream of all documents in rows of context + 1."""
    stream = np.concatenate(documents)
    return [stream[i : i + context + 1] for i in range(0, len(stream) - context - 1, context)]


def natural_rows(documents: list[np.ndarray], context: int, seed: int = 0) -> list[np.ndarray]:
    """Paragraph-like pieces of 16 to `context` tokens: lengths drawn from a log-normal, as chat turns and docstrings have."""
    rng = np.random.default_rng(seed)
    rows, stream, at = [], np.concatenate(documents), 0
    while at < min(len(stream) - context, 600_000):
        n = int(np.clip(rng.lognormal(4.4, 0.7), 16, context))
        rows.append(stream[at : at + n + 1])
        at += n
    return rows


class Apart:
    """A candidate in a process of its own, as a user would run it; it works only when asked for a round."""

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        self.name = name
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.pool.submit(_make, make, arguments, settings).result()

    def round(self, steps: int) -> list[float]:
        return self.pool.submit(_round, steps).result()


_here: dict[str, Any] = {}


def _make(make: Callable[..., Any], arguments: tuple[Any, ...], settings: dict[str, Any]) -> None:
    warnings.filterwarnings("ignore")
    console.quiet = True
    _here["candidate"] = make(*arguments, **settings)


def _round(steps: int) -> list[float]:
    return _here["candidate"].round(steps)


def measure(
    candidates: list[Apart], rounds: int, steps: int, tokens: Callable[[int], int]
) -> dict[str, list[float]]:
    """Tokens/s of each candidate in each round; the first step of a round warms up and is not counted.

    Args:
        tokens: number of a step -> its real tokens.
    """
    speeds: dict[str, list[float]] = {c.name: [] for c in candidates}
    for n in range(rounds + 1):
        first = n * (steps + 1) + 1
        real = sum(tokens(first + i) for i in range(steps))
        for candidate in candidates:
            seconds = candidate.round(steps + 1)[-steps:]
            if n:
                speeds[candidate.name].append(real / sum(seconds))
        console.print(f"round {n} of {rounds}" + (" (warm-up, not counted)" if n == 0 else ""))
    return speeds


def table(title: str, speeds: dict[str, list[float]], shape: Shape | None) -> None:
    """Medians over rounds, and the ratio of orrery's first row to each, taken within rounds."""
    own = next(iter(speeds))
    peak = matmul_peak()
    print(f"\n{title}\n")
    print("| | tokens/s | [min..max] | of the fp32 matmul peak | orrery fp32 is |")
    print("|---|---|---|---|---|")
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(speeds[own], values, strict=True))
        share = f"{statistics.median(values) * shape.flops_per_token() / peak:.0%}" if shape else ""
        print(
            f"| {name} | {statistics.median(values):,.0f} | [{min(values):,.0f}..{max(values):,.0f}] | {share} | {ratio:.2f}x |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="counted steps in a round")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave the compiled peer out (it takes half a minute)"
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    shape = Shape()
    documents = corpus(shape.vocab)
    rows = equal_rows(documents, shape.context)
    stream = np.concatenate(documents)
    print(
        f"machine: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__},"
    )
    print(f"{torch.backends.cpu.get_cpu_capability()}, fp32 matmul peak {matmul_peak() / 1e9:.0f} GFLOP/s")

    equal = [
        Apart("orrery, fp32", Ours, shape, rows),
        Apart("plain PyTorch GPT loop, eager", PlainLoop, shape, stream, compiled=False),
    ]
    if not options.no_compile:
        equal.append(Apart("plain PyTorch GPT loop, compiled", PlainLoop, shape, stream, compiled=True))
    equal.append(Apart("transformers Trainer, GPT-2", HuggingFace, shape, [row[:-1] for row in rows]))
    if bf16_is_fast():
        equal.append(Apart("orrery, bf16", Ours, shape, rows, precision="bf16"))
    speeds = measure(equal, options.rounds, options.steps, lambda step: shape.tokens)
    table("Rows of equal length (16 x 256)", speeds, shape)

    pieces = natural_rows(documents, shape.context)
    variable = [
        Apart("orrery, packed", Ours, shape, pieces),
        Apart("transformers Trainer, padding", HuggingFace, shape, [row[:-1] for row in pieces]),
    ]

    def real_tokens(step: int) -> int:
        return sum(len(pieces[(step * shape.rows + i) % len(pieces)]) - 1 for i in range(shape.rows))

    table(
        "Documents of natural length, real tokens only",
        measure(variable, options.rounds, options.steps, real_tokens),
        None,
    )


if __name__ == "__main__":
    main()
