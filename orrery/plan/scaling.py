"""How many parameters and tokens a compute budget should be spent on: the Chinchilla laws.

    L(N, D) = E + A / N^alpha + B / D^beta,   C = 6 N D
    N* = G (C / 6)^a,  D* = (C / 6)^b / G,    G = (alpha A / (beta B))^(1 / (alpha + beta)), a = beta / (alpha + beta)

Hoffmann et al. 2022 (arXiv:2203.15556), approach 3; refitted by Besiroglu et al. 2024 (arXiv:2404.10102), who found
about 20 tokens a parameter at all budgets, as the first paper's approaches 1 and 2 did. The law was fitted on models of
70 M parameters and more: for a model of a few million it is a direction, not a figure.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKENS_PER_PARAMETER = 20.0
"""The rule of thumb of approaches 1 and 2."""


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """A parametric fit of the loss (nats a token) in parameters N and tokens D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @property
    def a(self) -> float:
        """Exponent of N* in compute."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b(self) -> float:
        """Exponent of D* in compute."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def G(self) -> float:
        return (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))

    def loss(self, parameters: float, tokens: float) -> float:
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

    def optimal(self, flops: float) -> tuple[float, float]:
        """(N*, D*) for a budget of training FLOPs."""
        return self.G * (flops / 6) ** self.a, (flops / 6) ** self.b / self.G

    def tokens_for(self, parameters: float) -> float:
        """D* of the budget whose N* is `parameters`."""
        return (parameters / self.G) ** (self.b / self.a) / self.G


HOFFMANN = ScalingLaw(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
"""As printed. The exponents were rounded: they give a = 0.45 where the paper says 0.46."""
HOFFMANN_UNROUNDED = ScalingLaw(E=1.6934, A=406.4, B=410.7, alpha=0.3392, beta=0.2849)
BESIROGLU = ScalingLaw(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
