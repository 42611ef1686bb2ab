"""A model that trains in a second or two, for exhibits: the shipped decoder, loss, optimisers and schedules on bytes."""

from __future__ import annotations

import functools
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orrery.kit.seeds import torch_generator
from orrery.model.config import DecoderConfig
from orrery.model.decoder import Decoder
from orrery.model.mlp import Mlp
from orrery.model.packed import Packed
from orrery.train.loss import Loss, cross_entropy
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.clip import guarded_step
from orrery.train.optim.config import AdamW, OptimizerConfig
from orrery.train.schedule import Constant, Schedule, lr_at

CONTEXT = 64


@functools.cache
def text_ids() -> Tensor:
    """The bytes of a module of Python's own library (about 20 kB of code and prose), ids 0 to 255."""
    return torch.frombuffer(bytearray(Path(textwrap.__file__).read_bytes()), dtype=torch.uint8).long()


def shape(**changes: Any) -> DecoderConfig:
    """A byte-level decoder of two layers, 48 wide."""
    settings: dict[str, Any] = {
        "vocab_size": 256, "d_model": 48, "n_layers": 2, "n_heads": 4, "feed_forward": Mlp(d_ff=128), "max_positions": 512,
    }  # fmt: skip
    return DecoderConfig(**(settings | changes))


def draw(
    step: int, rows: int = 8, *, context: int = CONTEXT, seed: int = 0, ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Tokens and targets of `rows` random pieces of `ids` (the text's bytes), (rows * context,) each, by (seed, step)."""
    ids = text_ids() if ids is None else ids
    starts = torch.randint(len(ids) - context - 1, (rows,), generator=torch_generator(seed, "tiny", step))
    pieces = ids[starts[:, None] + torch.arange(context + 1)]
    return pieces[:, :-1].flatten(), pieces[:, 1:].flatten()


def loss(
    model: Decoder,
    tokens: Tensor,
    targets: Tensor,
    *,
    context: int = CONTEXT,
    wrap: Callable[[Any], Any] | None = None,
) -> Loss:
    """The token loss of pieces of `context` tokens laid end to end; `wrap` may put its own context around."""
    ctx: Any = Packed([context] * (len(tokens) // context))
    hidden = model(tokens, wrap(ctx) if wrap else ctx)
    return cross_entropy(hidden, model.head, targets, torch.ones(len(targets)))


def train(
    model: Decoder,
    optimizer: OptimizerConfig | None = None,
    *,
    steps: int = 60,
    schedule: Schedule | None = None,
    max_norm: float | None = None,
    rows: int = 8,
    ids: Tensor | None = None,
) -> list[float]:
    """Train in place; the loss of every step in nats a byte, inf from a step on that was not finite."""
    made = build_optimizer(model, optimizer or AdamW(lr=3e-3))
    losses: list[float] = []
    for step in range(steps):
        made.set_lr(lr_at(schedule or Constant(), step, steps))
        made.zero_grad()
        mean = loss(model, *draw(step, rows, ids=ids)).mean()
        mean.backward()
        losses.append(mean.item() if math.isfinite(mean.item()) else math.inf)
        if not guarded_step(made, max_norm=max_norm).applied:
            losses += [math.inf] * (steps - len(losses))
            break
    return losses


def smooth(values: list[float], width: int = 5) -> list[float]:
    """Running means, for drawing."""
    return [
        sum(values[max(0, i - width + 1) : i + 1]) / len(values[max(0, i - width + 1) : i + 1])
        for i in range(len(values))
    ]
