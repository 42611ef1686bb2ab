"""What the model that learns says of tokens that were written: log-probability, entropy, and a critic's value of where it stood.

One function for every pass of a step: before the updates, in them, and by the reference. Dropout is off, so that equal weights give equal
bits; log-probabilities are at the temperature that was sampled with.

T written tokens of a micro-batch, d model width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.moe import MoE
from orrery.tune.rl.algorithms import Critic
from orrery.tune.rl.entropy import scored
from orrery.tune.rl.packing import Micro

LOGIT_BYTES = 64 << 20
"""Logits that exist at once."""


class ValueHead(nn.Module):
    """What is still to be earned, from a hidden state: (n, d) -> (n,). It begins at 0 everywhere.

    Its weights learn at `lr_scale` times the policy's rate (see `train.optim.build`).
    """

    def __init__(self, d_model: int, cfg: Critic, *, seed: int) -> None:
        super().__init__()
        self.trunk = cfg.trunk
        width = cfg.width or d_model
        generator = torch.Generator().manual_seed(seed)
        self.hidden = nn.Linear(d_model, width) if cfg.width else nn.Identity()
        self.out = nn.Parameter(torch.zeros(width))
        self.shift = nn.Parameter(torch.zeros(()))
        if isinstance(self.hidden, nn.Linear):
            nn.init.normal_(self.hidden.weight, std=d_model**-0.5, generator=generator)
            nn.init.zeros_(self.hidden.bias)
        for parameter in self.parameters():
            parameter.lr_scale = cfg.lr_scale  # type: ignore[missing-attribute]

    def forward(self, hidden: Tensor) -> Tensor:
        read = self.hidden(hidden if self.trunk else hidden.detach())
        return torch.tanh(read) @ self.out + self.shift


class Read(NamedTuple):
    """Of each written token, all (T,): its log-probability, the entropy of the choice, and the value before it (None without a critic)."""

    logprobs: Tensor
    entropy: Tensor
    values: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A model and how it is read. `model.critic`, where there is one, gives the values."""

    model: Decoder
    temperature: float = 1.0

    def __call__(self, micro: Micro, ctx: Context | None = None) -> Read:
        """One pass over a micro-batch, differentiable where gradients are on."""
        hidden = self.hidden(micro, ctx)
        chunk = max(64, LOGIT_BYTES // (4 * self.model.cfg.vocab_size))
        found = scored(hidden, self.model.head, micro.targets, temperature=self.temperature, chunk=chunk)
        critic = getattr(self.model, "critic", None)
        return Read(found.logprobs, found.entropy, None if critic is None else critic(hidden))

    def hidden(self, micro: Micro, ctx: Context | None = None) -> Tensor:
        """(T, d) states that predict the written tokens."""
        return self.model(micro.batch.tokens, micro.context() if ctx is None else ctx)[micro.rows]

    def now(self, micro: Micro) -> Read:
        """The same numbers, as constants. It is read as in training, with gradients on: without, other kernels would run, and their
        last bits differ."""
        found = self(micro)
        return Read(
            found.logprobs.detach(),
            found.entropy.detach(),
            None if found.values is None else found.values.detach(),
        )

    @torch.no_grad()
    def as_served(self, micro: Micro) -> tuple[Tensor, dict[nn.Module, Tensor]]:
        """(T,) log-probabilities at temperature 1 by the kernels that the engine runs on, and the experts that routers took, by layer."""
        ctx = replace(micro, choices={}).context()
        hidden = self.hidden(micro, ctx)
        chunk = max(64, LOGIT_BYTES // (4 * self.model.cfg.vocab_size))
        logprobs = scored(hidden, self.model.head, micro.targets, chunk=chunk).logprobs
        return logprobs, {
            layer: ids for layer, ids in ctx.recorded.get("expert_ids", []) if isinstance(layer, MoE)
        }
