"""The one interface that evaluation, retrieval, agents and guards know of a model: token ids in, token ids out.

The local model, the engine, a remote server and the scripted fake for tests implement it alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. The defaults draw from the model's own distribution.

    temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 switch those filters off; repetition_penalty 1 and the
    other penalties 0 likewise. `logit_bias` is added to the logits of the named ids.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Continue `ids` by at most `max_tokens`; stop at a stop id (unless ignore_eos) or a stop string."""

    ids: Sequence[int]
    max_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] | None = None
    """None: the model's own (EOS and the chat format's)."""
    ignore_eos: bool = False
    num_beams: int = 1
    length_penalty: float = 1.0
    request_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came out: `logprobs[i]` is log p(ids[i] | everything before) of the model itself, in nats."""

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Log-probability of ids[start:] given what stands before each; start >= 1."""

    ids: Sequence[int]
    start: int = 1


@dataclass(frozen=True, kw_only=True)
class Score:
    """Surprise of a text: `nats` = -log p, over `tokens` predicted tokens that spell `bytes` bytes."""

    nats: float
    tokens: int
    bytes: int
    logprobs: tuple[float, ...] = ()

    @property
    def bits_per_byte(self) -> float:
        """nats / (ln 2 * bytes)."""
        import math

        return self.nats / (math.log(2) * max(self.bytes, 1))

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens)."""
        import math

        return math.exp(min(self.nats / max(self.tokens, 1), 700.0))


@dataclass(frozen=True, kw_only=True)
class EmbedRequest:
    """One vector for `ids`: the hidden states pooled by `pooling`."""

    ids: Sequence[int]
    pooling: Literal["mean", "last"] = "mean"
    normalize: bool = True


class LanguageModel(Protocol):
    """Requests in, results out in the same order."""

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]: ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]: ...

    def embed(self, requests: Sequence[EmbedRequest]) -> list[Any]: ...
