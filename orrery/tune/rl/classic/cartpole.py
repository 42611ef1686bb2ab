"""A pole on a cart, to be kept upright by pushing left or right; many at once.

The equations are those of Barto, Sutton & Anderson 1983, by Euler steps of 0.02 s: a force of 10 N on a cart of 1 kg with a
pole of 0.1 kg and 1 m. An episode ends where the pole leans more than 12 degrees, the cart is 2.4 m off, or after `limit`
steps. As in that paper nothing is paid but -1 for a fall.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

FORCE, GRAVITY, CART, POLE, HALF_LENGTH, TIME = 10.0, 9.8, 1.0, 0.1, 0.5, 0.02
FARTHEST, STEEPEST = 2.4, math.radians(12)


class Moved(NamedTuple):
    """After a step of all poles (N): what is seen next (N, 4), the reward (N,), whether it fell, whether time was up.

    Where an episode ended, `observation` is the first of the next one and `last` the last of the old.
    """

    observation: Tensor
    reward: Tensor
    fell: Tensor
    timed_out: Tensor
    last: Tensor


class CartPoles:
    """N poles; each starts anew where its episode ends. An observation is x, x', angle, angle' (SI units)."""

    def __init__(self, n: int, *, generator: torch.Generator, limit: int = 500) -> None:
        self.limit, self.generator = limit, generator
        self.state, self.age = self._fresh(n), torch.zeros(n, dtype=torch.int64)

    def step(self, actions: Tensor) -> Moved:
        """Push each cart, actions (N,) being 0 for left and 1 for right."""
        x, speed, angle, turn = self.state.unbind(1)
        total, lever = CART + POLE, POLE * HALF_LENGTH
        push = (FORCE * (2 * actions - 1) + lever * turn.square() * angle.sin()) / total
        spin = (GRAVITY * angle.sin() - angle.cos() * push) / (
            HALF_LENGTH * (4 / 3 - POLE * angle.cos().square() / total)
        )
        slide = push - lever * spin * angle.cos() / total
        last = torch.stack(
            [x + TIME * speed, speed + TIME * slide, angle + TIME * turn, turn + TIME * spin], 1
        )
        self.age += 1
        fell = (last[:, 0].abs() > FARTHEST) | (last[:, 2].abs() > STEEPEST)
        timed_out = ~fell & (self.age >= self.limit)
        over = fell | timed_out
        self.state = torch.where(over[:, None], self._fresh(len(last)), last)
        self.age = self.age.masked_fill(over, 0)
        return Moved(self.state, -fell.float(), fell, timed_out, last)

    def _fresh(self, n: int) -> Tensor:
        return 0.1 * torch.rand(n, 4, generator=self.generator) - 0.05
