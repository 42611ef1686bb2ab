"""One training step as its definition: draw, forward and backward, update.

    batches = draw(setup, step)                   what the loader has for the step, as the objective shows it
    totals = forward_backward(setup, batches, ...)    gradients of the summed loss, micro-batch by micro-batch
    outcome = update(setup, optimizer, ...)       divide once by the whole weight, clip, step; or skip

Losses are sums with weights, so micro-batches and ranks only add up; `update` is the one place that divides. All randomness is
keyed by (seed, step, micro-batch): there is no generator state to save or to lose.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from orrery.data.batch import Batch
from orrery.kit.seeds import key, numpy_generator
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.moe import MoE
from orrery.train.config import TrainConfig
from orrery.train.loss import Loss
from orrery.train.objectives.apply import Vocabulary, compute, context_for, transform
from orrery.train.optim.clip import clip_grad_value, global_norm
from orrery.train.optim.config import Muon
from orrery.train.optim.joint import JointOptimizer
from orrery.train.optim.qk_clip import WatchLogits, qk_clip
from orrery.train.precision import LossScaler, Precision


class Batches(Protocol):
    """What the loop asks of a loader: `orrery.data.loader.Loader` is one."""

    rank: int
    world: int

    @property
    def config(self) -> Any:
        """Has `micro_batches`, the number per step on each rank."""

    @property
    def fingerprint(self) -> str:
        """Names the sequence of steps."""

    def batch(self, step: int, micro: int = 0) -> Batch:
        """Micro-batch `micro` of `step` for this rank, a pure function of the two."""


class OwnLoss(Protocol):
    """A loss in place of the config's objective: of pairs of answers, of a teacher. `stats` of what it returns hold "nll", the sum that a
    validation is compared with."""

    def context(self, batch: Any) -> Context:
        """What each token of the batch may see."""
        ...

    def __call__(self, model: Any, batch: Any, ctx: Any) -> Loss:
        """The loss of the model on a batch, summed, with the weight to divide it by."""
        ...


@dataclass(frozen=True)
class World:
    """The processes that train together; alone, all of it does nothing."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> World:
        """As torch.distributed says, if it was initialised (torchrun)."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The maximum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank (float64)."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return told.item()


@dataclass
class Totals:
    """Sums over what was drawn for a step."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    """"loss", "weight" and what the objective adds ("nll" ...)."""
    loads: dict[nn.Module, Tensor] = field(default_factory=dict)
    """Assignments of each expert, by MoE layer."""
    largest: dict[nn.Module, Tensor] = field(default_factory=dict)
    """Largest attention logit of each head, by attention layer; empty unless the optimiser clips by it."""

    def add(self, sums: dict[str, Tensor], ctx: Context | WatchLogits) -> None:
        """One micro-batch more: its sums, and what layers reported to the context of its forward pass."""
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        for layer, load in ctx.recorded.get("expert_load", []):
            self.loads[layer] = self.loads[layer] + load if layer in self.loads else load
        for layer, logits in ctx.largest.items() if isinstance(ctx, WatchLogits) else ():
            self.largest[layer] = (
                torch.maximum(self.largest[layer], logits) if layer in self.largest else logits
            )

    def over(self, world: World, **numbers: float) -> dict[str, float]:
        """All sums, and `numbers` beside them, summed over ranks: one exchange, one wait."""
        device = self.sums["loss"].device
        own = [value.detach().double() for value in self.sums.values()]
        vector = torch.stack(
            [*own, *torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)]
        )
        return dict(zip([*self.sums, *numbers], world.sum(vector).tolist(), strict=True))


@dataclass(frozen=True)
class Setup:
    """What a step reads and never changes."""

    cfg: TrainConfig
    model: Decoder
    loader: Batches
    world: World
    precision: Precision
    device: torch.device
    vocabulary: Vocabulary | None = None
    loss: OwnLoss | None = None


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    Attributes:
        sums: "loss", "weight", "tokens" and what the objective adds, over micro-batches and ranks.
        grad_norm: of the mean loss, before clipping.
        skipped: why there was no update, in words; None if there was one.
        overflow: the skip is fp16's search for a loss scale, which is no fault.
        stop: some rank was asked to stop.
    """

    sums: dict[str, float]
    grad_norm: float
    skipped: str | None = None
    overflow: bool = False
    stop: bool = False

    def mean(self, name: str) -> float:
        """A sum divided by the step's weight; nan if that is 0."""
        return self.sums[name] / self.sums["weight"] if self.sums["weight"] > 0 else math.nan


def seed_everything(device: torch.device, seed: int, *parts: int | str) -> None:
    """Set the global generators of torch, Python and numpy to a point that (seed, parts) names."""
    place = key(seed, *parts)
    if device.type == "cpu":
        torch.default_generator.manual_seed(
            place
        )  # torch.manual_seed takes 0.3 ms to ask after every other device
    else:
        torch.manual_seed(place)
    random.seed(place)
    np.random.seed(place & 0xFFFFFFFF)


def draw(setup: Setup, step: int) -> list[Batch]:
    """This rank's micro-batches of `step`, as the objective shows them, on the device."""
    cfg, world, batches = setup.cfg, setup.world, []
    for micro in range(setup.loader.config.micro_batches):
        batch = setup.loader.batch(step, micro)
        if setup.vocabulary is not None:
            rng = numpy_generator(cfg.seed, "objective", step, micro * world.size + world.rank)
            batch = transform(cfg.objective, batch, setup.vocabulary, rng)
        batch.check_vocabulary(setup.model.cfg.vocab_size)
        batches.append(batch if setup.device.type == "cpu" else batch.to(setup.device))
    return batches


def forward_backward(setup: Setup, batches: Sequence[Batch], step: int, scaler: LossScaler) -> Totals:
    """The gradients of the summed (and scaled) loss of all micro-batches, in the parameters' `grad`."""
    cfg, world, totals = setup.cfg, setup.world, Totals()
    setup.model.zero_grad(set_to_none=True)
    for micro, batch in enumerate(batches):
        seed_everything(setup.device, cfg.seed, "step", step, micro * world.size + world.rank)
        own = setup.loss
        ctx: Any = context_for(cfg.objective, batch) if own is None else own.context(batch)
        if _clips_logits(cfg):
            ctx = WatchLogits(ctx)
        with setup.precision.autocast():
            if own is not None:
                loss = own(setup.model, batch, ctx)
            else:
                smooth = {"label_smoothing": cfg.label_smoothing, "z_loss": cfg.z_loss}
                loss = compute(cfg.objective, setup.model, batch, ctx, **smooth)
        totals.add({"loss": loss.sum.detach(), "weight": loss.weight, **loss.stats}, ctx)
        scaler.scale(loss.sum).backward()
    return totals


def update(
    setup: Setup,
    optimizer: JointOptimizer,
    scaler: LossScaler,
    totals: Totals,
    *,
    tokens: int,
    stop: bool = False,
) -> Outcome:
    """Divide the gradients by the step's weight, clip them, and take the optimiser's step.

    A loss or gradient that is not finite leaves weights, moments and averages untouched, on all ranks alike: a NaN on
    one of them makes the sums NaN for all.
    """
    cfg, world, parameters = setup.cfg, setup.world, optimizer.parameters
    sums = totals.over(world, tokens=tokens, stop=stop)
    stop = sums.pop("stop") > 0
    if world.size > 1:
        for p in parameters:
            p.grad = world.sum(torch.zeros_like(p) if p.grad is None else p.grad)
    scale = sums["weight"] * scaler.factor
    norm = global_norm(parameters) / scale if sums["weight"] > 0 else 0.0
    skipped, factor = _why_not(sums, norm), scaler.factor
    scaler.update(skipped is None)
    if skipped is not None:
        overflow = math.isfinite(sums["loss"]) and not scaler.fixed and factor > 1
        return Outcome(sums, norm, skipped=skipped, overflow=overflow, stop=stop)
    clip = 1.0 if cfg.clip_norm is None else min(1.0, cfg.clip_norm / (norm + 1e-6))
    torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], clip / scale)
    if cfg.clip_value is not None:
        clip_grad_value(parameters, cfg.clip_value)
    optimizer.step()
    for layer, load in totals.loads.items():
        if isinstance(layer, MoE) and layer.cfg.bias_update:
            layer.update_bias(world.sum(load))
    if isinstance(cfg.optimizer, Muon) and cfg.optimizer.qk_clip is not None:
        largest = {layer: world.max(logits) for layer, logits in totals.largest.items()}
        qk_clip(largest, tau=cfg.optimizer.qk_clip)
    return Outcome(sums, norm, stop=stop)


def _clips_logits(cfg: TrainConfig) -> bool:
    return isinstance(cfg.optimizer, Muon) and cfg.optimizer.qk_clip is not None


def _why_not(sums: dict[str, float], norm: float) -> str | None:
    if not sums["weight"] > 0:
        return "no token carries a loss"
    if not math.isfinite(sums["loss"]):
        return "non-finite loss"
    return None if math.isfinite(norm) else "non-finite gradient"
