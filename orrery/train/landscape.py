"""The loss around a model: its value along lines and planes in the space of weights.

    one direction   f(a)    = L(w + a u)            a = 0 is the model; with `between`, a = 1 is another checkpoint
    two directions  f(a, b) = L(w + a u + b v)

A random direction is drawn and then scaled row by row to the norm of the weights' rows ("filter
normalisation"; Li et al. 2018, arXiv:1712.09913, section 4), since a network does not change when one layer
is scaled up and the next one down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.kit.seeds import torch_generator

Direction = dict[str, Tensor]
SHADES = "@%#*+=-:. "


@dataclass(frozen=True)
class Slice:
    """Losses on a line, `losses[i]` at `alphas[i]`, or on a plane, `losses[i][j]` at (alphas[i], betas[j])."""

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]

    def drawn(self, height: int = 12) -> str:
        """For a terminal: a curve for a line, shades (dark is low) for a plane."""
        values = [value for row in self.losses for value in row]
        low, spread = min(values), (max(values) - min(values)) or 1.0
        if self.betas:
            level = len(SHADES) - 1
            rows = [
                "".join(SHADES[round((v - low) / spread * level)] * 2 for v in row) for row in self.losses
            ]
            return "\n".join([*rows, f"loss {low:.4g} (dark) to {max(values):.4g}"])
        levels = [round((value - low) / spread * (height - 1)) for value in values]
        rows = ["".join("o" if level == row else " " for level in levels) for row in reversed(range(height))]
        return "\n".join(
            [f"{max(values):.4g}", *rows, f"{low:.4g}  from {self.alphas[0]:g} to {self.alphas[-1]:g}"]
        )


def random_direction(model: nn.Module, seed: int = 0) -> Direction:
    """A random direction whose rows have the norms of the weights' rows; norms and biases stay."""
    direction = {}
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        drawn = torch.randn(weight.shape, generator=torch_generator(seed, "direction", name)).to(weight)
        direction[name] = drawn * (
            weight.detach().norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
        )
    return direction


def between(model: nn.Module, other: nn.Module) -> Direction:
    """The direction from `model` to `other`, which stands at 1 on it."""
    there = dict(other.named_parameters())
    here = dict(model.named_parameters())
    if here.keys() != there.keys() or any(here[name].shape != there[name].shape for name in here):
        raise OrreryError(
            "the two models have different weights; a line can only join checkpoints of one model"
        )
    return {name: (there[name] - here[name]).detach() for name in here}


def line(
    model: nn.Module, loss: Callable[[], float], direction: Direction, *, alphas: Sequence[float]
) -> Slice:
    """The loss at each point of a line; `loss` evaluates the model as it is when called."""
    return Slice(tuple(alphas), (), (tuple(_at(model, loss, [(direction, a)]) for a in alphas),))


def plane(
    model: nn.Module, loss: Callable[[], float], directions: tuple[Direction, Direction], *,
    alphas: Sequence[float], betas: Sequence[float],
) -> Slice:  # fmt: skip
    """The loss at each point of a grid."""
    u, v = directions
    return Slice(
        tuple(alphas),
        tuple(betas),
        tuple(tuple(_at(model, loss, [(u, a), (v, b)]) for b in betas) for a in alphas),
    )


def _at(model: nn.Module, loss: Callable[[], float], moves: list[tuple[Direction, float]]) -> float:
    with moved(model, moves), torch.no_grad():
        return float(loss())


@contextmanager
def moved(model: nn.Module, moves: list[tuple[Direction, float]]) -> Iterator[None]:
    """Within the block the model stands elsewhere; after it, it has every bit of its own weights again."""
    weights = dict(model.named_parameters())
    own = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for direction, amount in moves:
                for name, step in direction.items():
                    weights[name].add_(step, alpha=amount)
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(own[name])
