"""How fast the kernel in use is on this machine, against how fast memory can be read at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from orrery.model.lowbit.choice import Backend, backend_report, make_matrix

ROW, ROWS = 4096, 32768  # 143 MB of Q8_0: several times any last-level cache of a small machine


@dataclass(frozen=True)
class Speed:
    """One token's product with a large Q8_0 matrix.

    Attributes:
        kernel_gb_s: bytes of weights over time.
        memory_gb_s: bytes of a plain array read by the same threads over time.
    """

    backend: Backend
    detail: str
    reason: str
    threads: int
    kernel_gb_s: float
    memory_gb_s: float

    def __str__(self) -> str:
        share = self.kernel_gb_s / self.memory_gb_s
        return (
            f"{self.backend} ({self.detail}): {self.kernel_gb_s:.1f} GB/s of weights, {share:.0%} of the "
            f"{self.memory_gb_s:.1f} GB/s at which {self.threads} thread(s) read memory"
        )


def measure_bandwidth(size_bytes: int = 2**27, *, repeats: int = 6) -> float:
    """GB/s at which torch's number of threads read an array, the best of `repeats`."""
    return size_bytes / min(_seconds(_reader(size_bytes)) for _ in range(repeats)) / 1e9


def speed_report(*, repeats: int = 6) -> Speed:
    """Measure both, in turn, best of `repeats`: about a second with the compiled kernel.

    Raises:
        OrreryError: as `backend_report`.
    """
    report = backend_report()
    rows = ROWS if report.backend == "c++" else ROWS // 16 if report.backend == "torch" else ROWS // 2
    raw = torch.zeros(rows, ROW // 32 * 34, dtype=torch.uint8)
    read = _reader(raw.numel())
    matrix = make_matrix(raw, "Q8_0")
    del raw
    x = torch.ones(1, ROW)
    multiply, times = (lambda: matrix.multiply(x)), []
    multiply()
    for _ in range(repeats if report.backend != "torch" else 1):
        times.append((_seconds(multiply), _seconds(read)))
    kernel, memory = (min(column) for column in zip(*times, strict=True))
    return Speed(
        report.backend, report.detail, report.reason, torch.get_num_threads(),
        matrix.nbytes / kernel / 1e9, matrix.nbytes / memory / 1e9,
    )  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _reader(size_bytes: int) -> Callable[[], object]:
    """Something that reads that many bytes once."""
    words = torch.ones(size_bytes // 8, dtype=torch.int64)
    if backend_report().backend == "c++":
        from orrery.model.lowbit.native import load

        read = load().orrery_read
        return lambda: read(words.data_ptr(), words.numel(), torch.get_num_threads())
    return lambda: words.sum()
