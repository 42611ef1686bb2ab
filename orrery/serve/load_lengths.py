"""How long prompts and answers are in a load test: lognormal, as conversations are, drawn from a seed.

    ln(length) ~ N(mu, sigma^2),   mean = exp(mu + sigma^2 / 2),   median = exp(mu)

Many short messages and a few very long ones: a server that does well on equal lengths can do badly on these.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Lognormal:
    """A distribution of lengths in tokens: `mean` > 0, and `sigma` of the logarithm (0: all are equal)."""

    mean: float
    sigma: float

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.mean) - self.sigma**2 / 2

    def draw(self, rng: random.Random) -> int:
        """One length, 1 or more."""
        return max(1, round(rng.lognormvariate(self.mu, self.sigma)))


SHAREGPT_PROMPT = Lognormal(mean=161.0, sigma=0.83)
SHAREGPT_ANSWER = Lognormal(mean=338.0, sigma=1.08)
"""Means: those of ShareGPT's conversations in Kwon et al. 2023, arXiv:2309.06180, figure 11. Spreads: the maximum-likelihood fit
(mean and deviation of the logarithm) to 240 prompts and 345 answers of OpenAssistant's conversations, cut by Gemma's tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Prompt and answer of a request; `longest` is what both may have together (a model's context), and cuts what is longer."""

    prompt: Lognormal = SHAREGPT_PROMPT
    answer: Lognormal = SHAREGPT_ANSWER
    longest: int = 2048

    def draw(self, rng: random.Random) -> tuple[int, int]:
        """(tokens of the prompt, tokens of the answer): both 1 or more, the prompt three quarters of `longest` at most."""
        prompt = min(self.prompt.draw(rng), max(1, self.longest * 3 // 4))
        return prompt, min(self.answer.draw(rng), max(1, self.longest - prompt))
