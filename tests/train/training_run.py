"""A tiny run for the tests of the loop: models, batches made from a seed, and what a run leaves behind to be compared.

Imported by test processes and by their forked children, so it holds plain functions only.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from orrery.data.batch import Batch, Piece, batch_of
from orrery.kit import files
from orrery.kit.config import resolve, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import numpy_generator
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.moe import Moe
from orrery.train.checkpoint import Checkpoints, only_one, read_checkpoint
from orrery.train.config import CheckpointConfig, TrainConfig
from orrery.train.journal import read_journal
from orrery.train.loop import TrainResult, train
from orrery.train.optim.config import AdamW
from orrery.train.signals import Interrupted

DENSE = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=2, n_heads=2, feed_forward=Mlp(d_ff=24), dropout=0.1
)
MOE = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=2, n_heads=2, dropout=0.1,
    feed_forward=Moe(n_experts=4, top_k=2, d_ff=16, balance_over="sequence", z_loss=1e-3, bias_update=1e-3),
)  # fmt: skip
TIMING = ("seconds", "tokens_per_s", "mfu")


@dataclass(frozen=True)
class TinyLoader:
    """Documents of random lengths over a small vocabulary with a pattern to learn; `rows` of them in a micro-batch.

    It writes a line to `witness` for everything it is asked for, so that a test sees what each step learned from.
    """

    rows: int = 3
    micro_batches: int = 1
    seed: int = 0
    longest: int = 12
    vocab: int = 61
    rank: int = 0
    world: int = 1
    witness: Path | None = None
    salt: str = ""

    @property
    def config(self) -> Any:
        return SimpleNamespace(micro_batches=self.micro_batches)

    @property
    def fingerprint(self) -> str:
        return f"{self.seed}-{self.rows * self.micro_batches * self.world}-{self.longest}{self.salt}"

    def document(self, number: int) -> list[int]:
        rng = numpy_generator(self.seed, "document", number)
        start, stride, more = rng.integers(0, [self.vocab, 5, self.longest - 2])
        return [int(start + (stride + 1) * i) % self.vocab for i in range(3 + more)]

    def batch(self, step: int, micro: int = 0) -> Batch:
        first = (step * self.micro_batches * self.world + micro * self.world + self.rank) * self.rows
        documents = [self.document(first + row) for row in range(self.rows)]
        lengths = tuple(len(ids) - 1 for ids in documents)
        batch = Batch(
            tokens=torch.tensor([t for ids in documents for t in ids[:-1]]),
            targets=torch.tensor([t for ids in documents for t in ids[1:]]),
            weights=torch.ones(sum(lengths)),
            lengths=lengths,
            pieces=tuple(Piece(first + row, 0, length) for row, length in enumerate(lengths)),
        )
        if self.witness is not None:
            ids = [piece.document for piece in batch.pieces]
            line = (
                json.dumps({"step": step, "micro": micro, "documents": ids, "sha": sha(batch.tokens)}) + "\n"
            )
            file = os.open(self.witness, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, line.encode())
            os.close(file)
        return batch


def sha(*tensors: torch.Tensor) -> str:
    """Hash of the tensors' bytes."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(
            tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
            if tensor.ndim
            else str(tensor.item()).encode()
        )
    return total.hexdigest()[:16]


def weights_sha(model: Decoder, step: int = 0) -> str:
    """Hash of all weights: given to the loop as its sample function, it leaves an oracle line in samples.jsonl."""
    return sha(*model.state_dict().values())


def held_out_loss(model: Decoder) -> float:
    """Mean loss on documents that are not trained on."""
    from orrery.train.objectives import CausalLM
    from orrery.train.objectives.apply import compute, context_for

    batch = TinyLoader(seed=99).batch(0)
    return compute(CausalLM(), model, batch, context_for(CausalLM(), batch)).mean().item()


def config(**changes: Any) -> TrainConfig:
    """Settings of a tiny run: fp32, a sample (an oracle line) every 5 steps, a validation every 10."""
    defaults: dict[str, Any] = {
        "steps": 40, "optimizer": AdamW(lr=3e-3), "precision": "fp32", "sample_every": 5, "validate_every": 10,
        "checkpoint": CheckpointConfig(every_steps=7, every_seconds=None),
    }  # fmt: skip
    return TrainConfig(**(defaults | changes))


def go(
    out: Path,
    cfg: TrainConfig | None = None,
    *,
    model: DecoderConfig = DENSE,
    loader: TinyLoader | None = None,
    **more: Any,
) -> TrainResult:
    """Begin or go on with the run in `out`."""
    torch.set_num_threads(1)
    return train(
        cfg or config(), model=Decoder(model, seed=1), loader=loader or TinyLoader(), out=out,
        **({"validation": held_out_loss, "sample": weights_sha} | more),
    )  # fmt: skip


def trace(out: Path) -> dict[str, Any]:
    """All that a run leaves and that must not depend on how often it was interrupted."""
    metrics = [
        {k: exact(v) for k, v in line.items() if k not in TIMING}
        for line in read_journal(out / "metrics.jsonl")
    ]
    last = read_checkpoint(Checkpoints(out / "checkpoints").path(len(metrics)))
    state = {k: v for k, v in last.state.items() if k not in ("seconds", "identity")}
    return {
        "metrics": metrics,
        "samples": read_journal(out / "samples.jsonl"),
        "events": [line for line in read_journal(out / "events.jsonl") if line["event"] in ("skipped", "spike", "stopped early", "shortened")],
        "state": state,
        "tensors": {f"{part}/{name}": sha(t) for part, group in last.tensors.items() for name, t in group.items()},
    }  # fmt: skip


def exact(value: Any) -> Any:
    """Floats as hexadecimal text."""
    return value.hex() if isinstance(value, float) else value


def drawn(witness: Path) -> dict[tuple[int, int], str]:
    """What the loader gave for each (step, micro); a step asked for twice must have given the same twice."""
    seen: dict[tuple[int, int], str] = {}
    for line in read_journal(witness):
        place = (line["step"], line["micro"])
        assert seen.setdefault(place, line["sha"]) == line["sha"]
    return seen


class CrashAt(files.FileOps):
    """File operations that end the process at the `at`-th one: before it, or (a write) half-way through it."""

    def __init__(self, at: int, *, halfway: bool) -> None:
        self.left, self.halfway = at, halfway

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            os._exit(9)

    def write(self, path: Path, data: bytes) -> None:
        if self.left == 0 and self.halfway:
            super().write(path, data[: len(data) // 2])
        self._count()
        super().write(path, data)

    def fsync(self, path: Path) -> None:
        self._count()
        super().fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        if path.is_dir() and self.left == 0 and self.halfway:  # some files gone, others not
            for item in sorted(path.iterdir())[:2]:
                item.unlink()
        self._count()
        super().remove(path)


def child(job: dict[str, Any]) -> int:
    """What a forked process does; the job is JSON. Returns the exit status: 0 finished, 130 interrupted."""
    return {
        "train": train_child,
        "full disk": full_disk_child,
        "little memory": little_memory_child,
        "hold": hold_child,
    }[job.get("do", "train")](job)


def train_child(job: dict[str, Any]) -> int:
    """Begin or go on with a run."""
    out = Path(job["out"])
    if "crash_at" in job:
        files.ops = CrashAt(job["crash_at"], halfway=job["halfway"])
    cfg = resolve(TrainConfig, to_dict(config()) | job.get("config", {}))
    loader = TinyLoader(witness=out.with_suffix(".witness"), **job.get("loader", {}))
    try:
        go(out, cfg, model=MOE if job.get("model") == "moe" else DENSE, loader=loader)
    except Interrupted:
        return 130
    return 0


def full_disk_child(job: dict[str, Any]) -> int:
    """Save a checkpoint that fits and one that the system's limit on file sizes does not let through."""
    kept = Checkpoints(Path(job["out"]))
    kept.save(1, tensors={"model": {"w": torch.ones(1000)}}, state={})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        kept.save(2, tensors={"model": {"w": torch.ones(10_000)}}, state={})
    except OrreryError as error:
        Path(job["answer"]).write_text(str(error))
    return 0


def little_memory_child(job: dict[str, Any]) -> int:
    """Train until the address space is limited and a step asks for more than there is."""

    class Growing(TinyLoader):
        def batch(self, step: int, micro: int = 0) -> Batch:
            if step != 9:
                return super().batch(step, micro)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
            return batch_of([list(range(60)) * 4] * 2000)

    try:
        go(Path(job["out"]), loader=Growing())
    except OrreryError as error:
        Path(job["answer"]).write_text(str(error))
    return 0


def hold_child(job: dict[str, Any]) -> int:
    """Hold a folder until the process is killed."""
    with only_one(Path(job["out"])):
        Path(job["answer"]).write_text("held")
        time.sleep(600)
    return 0
