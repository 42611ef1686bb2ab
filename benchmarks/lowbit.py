"""Products of block-quantised weights against torch's: all matrices of gemma-3-270m (Q4_K_M), one pass a token.

    python benchmarks/lowbit.py [--threads 2] [--rounds 7] [--batch 1,8,16,512]

Weights are random and of the model's kinds and shapes; every matrix is another one, so they come from memory. Each round gives the
low-bit kernel, torch in float32 and torch in bfloat16 one pass in turn; medians, and the ratio is the median of the ratios within
rounds. With hundreds of tokens (a prompt) the head is left out, as only the last token needs it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from orrery.model.lowbit import KINDS, QuantLinear, backend_report, measure_bandwidth
from orrery.model.lowbit.matrix import Matrix

HEAD = ("Q8_0", 262_144, 640, 1, "head")
BODY = (
    ("Q5_0", 1024, 640, 18, "q"),
    ("Q5_0", 256, 640, 27, "k, v"),
    ("Q8_0", 256, 640, 9, "v"),
    ("Q4_K", 640, 1024, 18, "o"),
    ("Q5_0", 2048, 640, 36, "gate, up"),
    ("Q6_K", 640, 2048, 9, "down"),
    ("Q4_K", 640, 2048, 9, "down"),
)


def rows(kind: str, n: int, k: int) -> Tensor:
    """Random codes; scales small enough to be finite whatever the format."""
    return torch.randint(0, 48, (n, k // KINDS[kind].block * KINDS[kind].size), dtype=torch.uint8)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Candidate:
    """All matrices in one form, multiplied by the same activations."""

    def __init__(
        self, name: str, make: Callable[[str, int, int], Callable[[Tensor], Tensor]], dtype: torch.dtype
    ) -> None:
        self.name, self.dtype = name, dtype
        self.layers = {shape: [make(*shape[:3]) for _ in range(shape[3])] for shape in (*BODY, HEAD)}
        self.times: dict[tuple, list[float]] = {}

    def round(self, batch: int, inputs: dict[int, Tensor], *, head: bool) -> None:
        xs = {k: x.to(self.dtype) for k, x in inputs.items()}
        with torch.inference_mode():
            for shape, layers in self.layers.items():
                if shape is HEAD and not head:
                    continue
                x = xs[shape[2]]
                work = lambda layers=layers, x=x: [layer(x) for layer in layers]  # noqa: E731
                self.times.setdefault((batch, shape), []).append(seconds(work))

    def pass_times(self, batch: int) -> list[float]:
        """Seconds of a whole pass, round by round."""
        return [
            sum(parts) for parts in zip(*(t for (b, _), t in self.times.items() if b == batch), strict=True)
        ]


def lowbit(kind: str, n: int, k: int) -> QuantLinear:
    return QuantLinear.from_blocks(rows(kind, n, k), kind)


def dense(dtype: torch.dtype) -> Callable[[str, int, int], Callable[[Tensor], Tensor]]:
    def make(kind: str, n: int, k: int) -> Callable[[Tensor], Tensor]:
        weight = torch.randn(n, k, dtype=dtype)
        return lambda x: F.linear(x, weight)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", default="1,8,16,512")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console = Console(width=132)
    console.print(str(backend_report()))
    bandwidth = measure_bandwidth()
    console.print(f"memory is read at {bandwidth:.1f} GB/s by {options.threads} thread(s)")
    ours = Candidate("low-bit", lowbit, torch.float32)
    peers = [
        Candidate("torch fp32", dense(torch.float32), torch.float32),
        Candidate("torch bf16", dense(torch.bfloat16), torch.bfloat16),
    ]
    bytes_of = {
        shape: sum(_matrix(layer).nbytes for layer in layers) for shape, layers in ours.layers.items()
    }
    for batch in (int(b) for b in options.batch.split(",")):
        head = batch <= 64
        inputs = {k: torch.randn(batch, k) for k in (640, 1024, 2048)}
        for _ in range(options.rounds + 1):
            for candidate in (ours, *peers):
                time.sleep(
                    0.05
                )  # torch's threads look for work for some milliseconds; they shall not hold up the next one
                candidate.round(batch, inputs, head=head)
        for candidate in (ours, *peers):
            for times in candidate.times.values():
                if len(times) > options.rounds:
                    del times[0]  # the first round warms up
        _report(console, batch, ours, peers, bytes_of)


def _matrix(layer: object) -> Matrix:
    assert isinstance(layer, QuantLinear)
    return layer.matrix


def _report(
    console: Console, batch: int, ours: Candidate, peers: list[Candidate], bytes_of: dict[tuple, int]
) -> None:
    table = Table(title=f"{batch} token(s)")
    columns = (
        "matrices",
        "low-bit us",
        "GB/s",
        "GOP/s",
        *(f"{p.name} us" for p in peers),
        *(f"x {p.name}" for p in peers),
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "matrices" else "right")
    for shape in (*BODY, HEAD):
        if (batch, shape) not in ours.times:
            continue
        kind, n, k, count, name = shape
        t = statistics.median(ours.times[batch, shape])
        others = [p.times[batch, shape] for p in peers]
        table.add_row(
            f"{count} x {name} {kind} {n}x{k}", f"{t / count * 1e6:.0f}", f"{bytes_of[shape] / t / 1e9:.1f}",
            f"{2 * batch * n * k * count / t / 1e9:.0f}", *(f"{statistics.median(o) / count * 1e6:.0f}" for o in others),
            *(f"{_ratio(o, ours.times[batch, shape]):.1f}" for o in others),
        )  # fmt: skip
    total = ours.pass_times(batch)
    rates = ", ".join(
        f"{c.name} {batch / statistics.median(c.pass_times(batch)):.1f}" for c in (ours, *peers)
    )
    console.print(table)
    ratios = ", ".join(f"{_ratio(p.pass_times(batch), total):.1f} x {p.name}" for p in peers)
    console.print(f"all matrices, tokens/s: {rates}; low-bit is {ratios}\n")


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


if __name__ == "__main__":
    main()
