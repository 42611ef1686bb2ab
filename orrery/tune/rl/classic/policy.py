"""A policy gives every action a probability. What learns from it needs two things of it: samples and their log-probabilities.

A table of logits and a network share the interface, and so does a language model: its state is the text so far, its
actions are the vocabulary, and `tune.rl.entropy.scored` gives the same two numbers of its tokens.

Legend: T states, A actions.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from orrery.tune.rl.entropy import Scored, entropy_of


class Policy(Protocol):
    """States (T, ...) -> log-probabilities of all actions, (T, A), with gradient."""

    def __call__(self, states: Tensor) -> Tensor: ...


class SoftmaxTable(nn.Module):
    """One row of logits a state; `states` (T,) int64."""

    def __init__(self, states: int, actions: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(states, actions))

    def forward(self, states: Tensor) -> Tensor:
        return self.logits[states].log_softmax(-1)


class SoftmaxNet(nn.Module):
    """A network of observations (T, inputs)."""

    def __init__(self, inputs: int, actions: int, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, actions)
        )

    def forward(self, states: Tensor) -> Tensor:
        return self.net(states).log_softmax(-1)


def act(policy: Policy, states: Tensor, generator: torch.Generator) -> Tensor:
    """One action a state, (T,), drawn."""
    with torch.no_grad():
        return torch.multinomial(policy(states).exp(), 1, generator=generator).squeeze(1)


def score(policy: Policy, states: Tensor, actions: Tensor) -> Scored:
    """Log-probabilities of actions (T,) and the entropies, as a language model's."""
    logp = policy(states)
    return Scored(logp.gather(1, actions[:, None]).squeeze(1), entropy_of(logp))
