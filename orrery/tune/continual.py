"""Tasks learned one after another, and what is left of the earlier ones.

    R[i][j]      loss on task j after task i was learned (row 0: before any)
    forgetting   F_j = R[last][j] - R[j + 1][j], how much worse a task is at the end than when it had just been learned
    plasticity   the loss on a task when it has just been learned: what remembering costs the new

Two remedies: replay, a share of every row of examples that is drawn from earlier tasks (Rolnick et al. 2019, arXiv:1811.11682), and a
penalty on leaving weights that mattered (`ewc`). The matrix is that of Lopez-Paz & Ranzato 2017, arXiv:1706.08840, with losses.

This is a short loop in memory, for experiments; a run that can be stopped is one `kind: tune` stage a task, each with the tasks before
it in `replay` or in `watch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from orrery.data.batch import Batch
from orrery.model.decoder import Decoder
from orrery.serve.mode import evaluating
from orrery.train.objectives import CausalLM
from orrery.train.objectives.apply import compute
from orrery.train.optim.build import build_optimizer
from orrery.train.optim.clip import global_norm
from orrery.train.optim.config import AdamW, OptimizerConfig
from orrery.tune.ewc import Anchor, anchored
from orrery.tune.example_set import ExampleSet
from orrery.tune.loader import ExampleLoader, ExampleLoaderConfig
from orrery.tune.measure import batches_of, heldout_loss

Measure = Callable[[Decoder, Sequence[Batch]], float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned, and what is asked afterwards."""

    name: str
    train: ExampleSet
    heldout: Sequence[Batch]


@dataclass(frozen=True, kw_only=True)
class Retention:
    """`values[i][j]`: task j measured after i tasks were learned."""

    tasks: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def forgetting(self) -> tuple[float, ...]:
        """Of every task but the last: how much its value has risen since it was learned."""
        return tuple(self.values[-1][j] - self.values[j + 1][j] for j in range(len(self.tasks) - 1))

    @property
    def learned(self) -> tuple[float, ...]:
        """The value of each task when it had just been learned."""
        return tuple(self.values[j + 1][j] for j in range(len(self.tasks)))


def learn_in_turn(
    model: Decoder, tasks: Sequence[Task], *, steps: int, replay_share: float = 0.0, ewc: float = 0.0,
    loader: ExampleLoaderConfig | None = None, optimizer: OptimizerConfig | None = None, measure: Measure = heldout_loss,
) -> Retention:  # fmt: skip
    """Train `model` in place on each task for so many steps, measuring all of them before the first and after each.

    Args:
        replay_share: of the rows of every task but the first, drawn from all tasks before it.
        ewc: strength of the penalty on leaving the weights that mattered to the tasks before; 0: none.
        measure: what a value of the matrix is; it should fall.
    """

    def row() -> tuple[float, ...]:
        with evaluating(model), torch.no_grad():
            return tuple(measure(model, task.heldout) for task in tasks)

    values, anchors = [row()], list[Anchor]()
    for number, task in enumerate(tasks):
        earlier = [before.train for before in tasks[:number]] if replay_share else []
        shares = [1 - replay_share] + [replay_share / len(earlier)] * len(earlier) if earlier else None
        batches = ExampleLoader([task.train, *earlier], loader or ExampleLoaderConfig(), shares=shares)
        learn(
            model,
            batches,
            steps=steps,
            optimizer=optimizer or AdamW(lr=3e-3, weight_decay=0.0),
            anchors=anchors,
            strength=ewc,
        )
        if ewc:
            anchors.append(anchored(model, list(batches_of(task.train, positions=1, most=200))))
        values.append(row())
    return Retention(tasks=tuple(task.name for task in tasks), values=tuple(values))


def learn(
    model: Decoder, loader: ExampleLoader, *, steps: int, optimizer: OptimizerConfig, anchors: Sequence[Anchor] = (), strength: float = 0.0,
) -> None:  # fmt: skip
    """So many steps at a constant rate, gradients clipped to norm 1."""
    rule = build_optimizer(model, optimizer)
    model.train()
    for step in range(steps):
        loss = compute(CausalLM(), model, loader.batch(step)).mean()
        for anchor in anchors:
            loss = loss + strength / 2 * anchor.distance(model)
        rule.zero_grad()
        loss.backward()
        norm = global_norm(rule.parameters)
        if norm > 1:
            torch._foreach_mul_([p.grad for p in rule.parameters if p.grad is not None], 1 / norm)
        rule.step()
    model.eval()
