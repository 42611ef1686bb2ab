"""Router replay: what an answer was drawn with, it is learned from with: the experts that routers took for each of its tokens.

A router near a tie sends a token elsewhere after the smallest change of weights or kernels, and the importance ratio then compares two
sub-networks rather than two policies (Zheng et al. 2025, arXiv:2507.18071, section 5.3). So the experts are noted where answers are drawn, by
the kernels and the weights that drew them, and dictated in every pass that learns; the routers' weights still learn. (Rollout routing replay,
Ma et al. 2025, arXiv:2510.11370.)

Of an episode, by layer: (n, k) experts of its n tokens (virtual ones before it included, the last one left out: nothing is read from it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from orrery.model.decoder import Decoder
from orrery.model.moe import MoE
from orrery.tune.rl.packing import Micro, micro_batches
from orrery.tune.rl.reading import Reader
from orrery.tune.rl.trajectory import Trajectory


def routers(model: Decoder) -> list[MoE]:
    """The layers that route, in order."""
    return [layer for layer in model.modules() if isinstance(layer, MoE)]


def with_experts(
    trajectories: Sequence[Trajectory], model: Decoder, *, tokens: int, virtual: int = 0
) -> list[Trajectory]:
    """The episodes with the experts that their tokens are sent to, by the weights as they are and the kernels of the engine."""
    found: dict[int, tuple[Tensor, ...]] = {}
    micros = micro_batches(
        trajectories, range(len(trajectories)), tokens=tokens, device=model.device, virtual=virtual,
        share=not model.state_spec(),
    )  # fmt: skip
    for micro in micros:
        taken = Reader(model=model).as_served(micro)[1]
        for r, rows in micro.members.items():
            found[r] = tuple(taken[layer][rows].cpu() for layer in routers(model))
    return [replace(one, experts=found[r]) for r, one in enumerate(trajectories)]


def dictated(micro: Micro, trajectories: Sequence[Trajectory], model: Decoder) -> Micro:
    """The pass with the experts that its episodes were drawn with."""
    choices: dict[nn.Module, Tensor] = {}
    for n, layer in enumerate(routers(model)):
        k = trajectories[next(iter(micro.members))].experts[n].shape[1]
        chosen = torch.empty((len(micro.batch), k), dtype=torch.int64, device=model.device)
        for r, rows in micro.members.items():
            chosen[rows] = trajectories[r].experts[n].to(chosen)
        choices[layer] = chosen
    return replace(micro, choices=choices)
