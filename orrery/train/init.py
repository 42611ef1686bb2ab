"""How weights begin.

    normal        N(0, std^2)
    xavier        N(0, 2 / (fan_in + fan_out))   keeps variance through tanh, both ways (Glorot & Bengio 2010)
    he            N(0, 2 / fan_in)               makes up for the half that ReLU removes (He et al. 2015)
    depth-scaled  N(0, std^2), and std / sqrt(2 L) for the 2 L matrices that write into the residual stream, so
                  that its variance does not grow with the depth (Radford et al. 2019, GPT-2, section 2.3)

Embeddings and the head are N(0, std^2) in all of them: the fan of a table is its vocabulary, which says
nothing. Norms start as the identity, biases and other vectors at 0, what a recurrence has besides matrices by rules
of its own. Every tensor has its own random stream, keyed by (seed, its name): adding a layer does not
change the others.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orrery.kit.seeds import torch_generator
from orrery.model.reset import reset_by_kind
from orrery.train.optim.groups import parameter_groups

Kind = Literal["normal", "xavier", "he", "depth-scaled"]
RESIDUAL = ("o_proj.weight", "out_proj.weight", "down_proj.weight", "experts.down")
"""Ends of the names of matrices whose output is added to the residual stream."""


@torch.no_grad()
def initialize(
    model: nn.Module, kind: Kind = "normal", *, std: float = 0.02, seed: int = 0, zero_output: bool = False
) -> None:
    """Draw every trainable weight of `model` anew, in place.

    Args:
        std: for "normal", "depth-scaled" and all embeddings.
        zero_output: start the matrices that write into the residual stream at 0, so that every block starts
            as the identity. Others must not start at 0: equal units get equal gradients and stay equal.
    """
    sorts = parameter_groups(model)
    writers = sum(name.endswith(RESIDUAL) for name in sorts.matrices)
    for name, weight in (sorts.matrices | sorts.embeddings).items():
        residual = name.endswith(RESIDUAL)
        if residual and zero_output:
            weight.zero_()
            continue
        spread = std if name in sorts.embeddings else matrix_std(weight, kind, std)
        if residual and kind == "depth-scaled":
            spread /= writers**0.5
        weight.copy_(
            torch.empty(weight.shape).normal_(0.0, spread, generator=torch_generator(seed, "weight", name))
        )
    for vector in sorts.vectors.values():
        vector.zero_()
    reset_by_kind(model, seed)


def matrix_std(weight: Tensor, kind: Kind, std: float) -> float:
    """Standard deviation of a hidden matrix (out, in) or of a stack of experts (E, in, out)."""
    fan_in, fan_out = weight.shape[-2:] if weight.ndim == 3 else weight.shape[::-1]
    match kind:
        case "xavier":
            return (2 / (fan_in + fan_out)) ** 0.5
        case "he":
            return (2 / fan_in) ** 0.5
        case _:
            return std
