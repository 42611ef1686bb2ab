"""Prompts whose answers are all right or all wrong teach nothing to a group-relative loss; draw others.

    keep a prompt  <=>  its G rewards are not all equal         (Yu et al. 2025, arXiv:2503.14476, section 3.2, eq. 11)

Without it the share of dead groups grows as the policy improves, the batch that counts shrinks, and the gradient gets noisier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.tune.rl.advantage import spread

G = TypeVar("G")


def dead_groups(rewards: Tensor, group: Tensor) -> Tensor:
    """Which groups have equal rewards, (groups,) bool by ascending group number; a group of one is dead."""
    return spread(rewards, group) == 0


def informative(rewards: Tensor, group: Tensor) -> Tensor:
    """Which responses belong to a group that teaches, (R,) bool."""
    _, index = torch.unique(group, return_inverse=True)
    return ~dead_groups(rewards, group)[index]


@dataclass(frozen=True)
class Sampled(Generic[G]):
    """The groups kept, and how many were drawn to find them."""

    groups: list[G]
    drawn: int


def resample(
    draw: Callable[[int, int], list[G]], alive: Callable[[G], bool], *, wanted: int, rounds: int
) -> Sampled[G]:
    """Draw until `wanted` groups are alive.

    Args:
        draw: (round, n) -> n new groups, the round counting from 0.
        rounds: most rounds; each draws as many as are still missing.

    Raises:
        OrreryError: not one group was alive after all rounds. With some, but fewer than wanted, those are returned.
    """
    kept: list[G] = []
    drawn = 0
    for n in range(rounds):
        missing = wanted - len(kept)
        if not missing:
            break
        groups = draw(n, missing)
        drawn += len(groups)
        kept += [group for group in groups if alive(group)]
    if not kept:
        raise OrreryError(
            f"all {drawn} groups had equal rewards, so there is nothing to learn from; take easier or harder prompts, or more "
            "responses to each"
        )
    return Sampled(kept, drawn)
