"""Elastic weight consolidation: weights that mattered to an old task are held where they were.

    L = L_new + (lambda / 2) sum_i F_i (w_i - w*_i)^2

F is the diagonal of the Fisher information at w*, here the mean over examples of the squared gradient of their log-likelihood (the
empirical Fisher; `train.fisher` has the whole matrix for models that are small enough). Kirkpatrick et al. 2017, arXiv:1612.00796.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orrery.data.batch import Batch
from orrery.model.decoder import Decoder
from orrery.train.objectives import CausalLM
from orrery.train.objectives.apply import compute


@dataclass(frozen=True)
class Anchor:
    """Where the weights were, and how much each of them mattered."""

    weights: dict[str, Tensor]
    fisher: dict[str, Tensor]

    def distance(self, model: Decoder) -> Tensor:
        """sum_i F_i (w_i - w*_i)^2."""
        named = dict(model.named_parameters())
        return torch.stack([
            (fisher * (named[name] - self.weights[name]).square()).sum() for name, fisher in self.fisher.items()
        ]).sum()  # fmt: skip


def anchored(model: Decoder, examples: Sequence[Batch]) -> Anchor:
    """The model as it is, with the Fisher diagonal over `examples`, each a batch of one."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    fisher = {name: torch.zeros_like(p) for name, p in named.items()}
    for batch in examples:
        loss = compute(CausalLM(), model, batch).sum
        for (name, _), gradient in zip(
            named.items(), torch.autograd.grad(loss, list(named.values())), strict=True
        ):
            fisher[name] += gradient.square() / len(examples)
    return Anchor({name: p.detach().clone() for name, p in named.items()}, fisher)
