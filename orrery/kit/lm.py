"""The one interface that evaluation, retrieval, agents and guards know of a model: token ids in, token ids out.

The local model, the engine, a remote server and the scripted fake for tests implement it alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. The defaults draw from the model's own distribution.

    temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 switch those filters off; repetition_penalty 1 and the
    other penalties 0 likewise. `logit_bias` is added to the logits of the named ids. `bad_words` are sequences of ids that
    must not be completed. xtc_probability 0, dry_multiplier 0 and contrastive_alpha 0 switch those methods off;
    dry_breakers are ids over which no repetition is seen to run.
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
    bad_words: tuple[tuple[int, ...], ...] = ()
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breakers: tuple[int, ...] = ()
    contrastive_alpha: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """What the text must match.

    json_schema: `source` is the schema as JSON. json_object: any JSON object, `source` is not read. regex: a regular expression.
    choice: a JSON list of texts. lark: a context-free grammar in EBNF.
    """

    kind: Literal["json_schema", "json_object", "regex", "choice", "lark"]
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Steering:
    """Add strength * vector (d,) to the residual stream behind layer `layer`, at every token of the request."""

    layer: int
    vector: tuple[float, ...]
    strength: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Observe:
    """What to look at while the request runs, for the tokens made (and with `prompt`, for those read).

    what: "logit_lens" (the `top` likeliest tokens by layer), "attention_entropy" (nats by layer and head), "attention" (by layer,
    head and key), or the name of an activation, as `Decoder.named_modules` names its probes.
    """

    what: str
    layers: tuple[int, ...] | None = None
    top: int = 5
    prompt: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """Continue `ids` by at most `max_tokens`; stop at a stop id (unless ignore_eos) or a stop string.

    Attributes:
        n: how many continuations to give; best_of: how many to make, of which the n likeliest a token are given.
        logprobs, prompt_logprobs: how many alternatives to report for each token made or read; None reports none.
        grammar: what the text must match.
        adapter: name of a loaded adapter. steering, observe: changes and views of activations.
        priority: smaller runs earlier. tenant: requests of different tenants share no cached prefix.
        cache_prefix: the request may read and leave cached prefixes. speculate: it may be drafted for.
    """

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
    n: int = 1
    best_of: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None
    adapter: str | None = None
    steering: tuple[Steering, ...] = ()
    observe: tuple[Observe, ...] = ()
    priority: int = 0
    tenant: str = ""
    cache_prefix: bool = True
    speculate: bool = True


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came out: `logprobs[i]` is log p(ids[i] | everything before) of the model itself, in nats.

    Attributes:
        top_logprobs: for each token made, the likeliest alternatives {id: log-probability}, as many as were asked for.
        prompt_logprobs: for each token read but the first, its own log-probability and the likeliest alternatives'.
        cached_tokens: tokens of the prompt that were not computed again. drafted, accepted: by speculation.
        observed: by `Observe.what`, one entry for each token looked at.
        others: the further continuations where n > 1.
    """

    text: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    top_logprobs: tuple[dict[int, float], ...] = ()
    prompt_logprobs: tuple[dict[int, float], ...] = ()
    cached_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    observed: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Completion, ...] = ()


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
