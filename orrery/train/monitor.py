"""Watching a run: losses that jump, steps that must be skipped, and how much of the machine is used.

    spike           loss > mean + k * std over the last `window` steps
    utilisation     model FLOPs per second / the machine's own measured matmul peak  (MFU, Chowdhery et al. 2022, appendix B)

Only finite values enter the statistics: a NaN in the window would make every later comparison false.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.plan.flops import attention_width, count_flops


class SpikeMonitor:
    """Notices a loss that stands out from those before it (as OLMo does: 6 standard deviations over 128 steps).

    A spike stays out of the window. After `patience` spikes in a row it is no spike but a new level, and the window
    begins anew.
    """

    def __init__(self, *, window: int = 128, sigmas: float = 6.0, least: int = 64, patience: int = 8) -> None:
        self.window, self.sigmas, self.least, self.patience = window, sigmas, least, patience
        self.values: deque[float] = deque(maxlen=window)
        self.in_a_row = 0

    def see(self, value: float) -> float | None:
        """Take in one finite value; how many standard deviations it is above the mean if that is a spike, else None."""
        height = self._height(value)
        if height is None:
            self.in_a_row = 0
            self.values.append(value)
            return None
        self.in_a_row += 1
        if self.in_a_row >= self.patience:
            self.values.clear()
            self.in_a_row = 0
        return height

    def _height(self, value: float) -> float | None:
        n = len(self.values)
        if n < self.least:
            return None
        mean = math.fsum(self.values) / n
        std = math.sqrt(math.fsum((x - mean) ** 2 for x in self.values) / n)
        return (value - mean) / std if std > 0 and value > mean + self.sigmas * std else None

    def state(self) -> dict[str, Any]:
        """JSON-able; floats keep every bit there."""
        return {"values": list(self.values), "in_a_row": self.in_a_row}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave."""
        self.values = deque(state["values"], maxlen=self.window)
        self.in_a_row = state["in_a_row"]


@dataclass
class Skips:
    """Counts steps without an update; too many in a row end the run.

    Raises:
        OrreryError: from `skip`, at the `limit`-th in a row.
    """

    limit: int
    total: int = 0
    in_a_row: int = 0

    def skip(self, step: int, why: str, *, harmless: bool = False) -> None:
        """Count one; one that is `harmless` does not count towards the limit."""
        self.total += 1
        self.in_a_row += not harmless
        if self.in_a_row >= self.limit:
            raise OrreryError(
                f"{self.in_a_row} steps in a row had to be skipped, the last one step {step} ({why}); lower the learning rate, "
                "lengthen the warmup, or look at the documents listed in events.jsonl"
            )

    def fine(self) -> None:
        """A step was taken."""
        self.in_a_row = 0


class Utilisation:
    """Counts the FLOPs a model needs for what it is shown (not what is computed again) against the machine's peak."""

    def __init__(self, cfg: DecoderConfig, peak: float) -> None:
        planned, head = count_flops(cfg, 1), cfg.vocab_size * cfg.d_model
        self.cfg, self.peak = cfg, peak
        self.per_token = 3 * (planned.matmul + planned.multi_token) - 6.0 * head * (1 + cfg.mtp_heads)
        """Of every token: layers and multi-token modules, without attention scores."""
        self.per_loss = 6.0 * head * (1 + cfg.mtp_heads)
        """Of every token that has a loss: the head."""

    def flops(self, lengths: Sequence[int], predicted: int) -> float:
        """Training FLOPs of a batch: sequences of `lengths`, of whose tokens `predicted` have a loss."""
        return self.per_token * sum(lengths) + self.per_loss * predicted + attention_flops(self.cfg, lengths)

    def of(self, flops: float, seconds: float) -> float:
        """Share of the peak: 1 is all of it."""
        return flops / max(seconds, 1e-9) / self.peak


def attention_flops(cfg: DecoderConfig, lengths: Sequence[int]) -> float:
    """Training FLOPs of the scores and weighted values over sequences of `lengths`.

    6 H (D + Dv) n per token and layer that sees n tokens (12 H D n where Dv = D), as is customary not halved for causality;
    a window bounds n.
    """
    windows = [cfg.layer_window(layer) for layer in range(cfg.n_layers)]
    seen = {window: sum(n * min(n, window or n) for n in lengths) for window in set(windows)}
    return 6.0 * cfg.n_heads * attention_width(cfg) * sum(seen[window] for window in windows)


@cache
def matmul_peak(device: str = "cpu", dtype: torch.dtype = torch.float32, seconds: float = 0.3) -> float:
    """FLOP/s of the best square matmul seen within about `seconds`; measured once in a process.

    The size is one that a machine of this kind does at full speed: 1024 on a CPU, 8192 on a GPU.
    """
    n = 1024 if device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device, generator=_generator(device)).to(dtype) for _ in range(2))
    out = torch.empty(n, n, device=device, dtype=dtype)
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end or best == math.inf:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        if device != "cpu":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * n**3 / best


def _generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)
