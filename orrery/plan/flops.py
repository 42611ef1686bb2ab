"""Floating-point operations of one token, forward and in training, under the two conventions in use.

    forward  = 2 * (N + V d) + attention;   training = 3 * forward (backward is twice forward)
    attention, "full":    4 * L * H * D * s            PaLM appendix B (Chowdhery et al. 2022): no mask, no window
    attention, "causal":  4 * H * D * (tokens seen)    what the mask leaves: (s + 1) / 2 on average, less in a window

A recurrent layer's state is a fixed number of operations a token, whatever the context: see `recurrence_flops`.

So training "full" is 6 (N + V d) + 12 L H D s, the figure behind published utilisations. N counts the weights of the
blocks that a token meets (chosen experts only), with norms and biases; the embedding is a look-up and costs nothing.

L layers, H heads, D head dim, s context length, V vocabulary, d model width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from orrery.model.config import DecoderConfig
from orrery.model.mamba2 import Mamba2
from orrery.model.mla import Mla
from orrery.plan.parameters import count_parameters

Convention = Literal["full", "causal"]


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Of one token at one context length."""

    context: int
    matmul: float
    """Forward, through weights and the head."""
    attention_full: float
    """Forward, scores and weighted values over all s tokens."""
    attention_causal: float
    """The same over the tokens a mask leaves, the mean over positions."""
    recurrence: float
    """Forward, updating and reading the states of recurrent layers."""
    multi_token: float
    """Forward, through the multi-token-prediction modules and their use of the head; in training only."""

    def forward(self, convention: Convention = "full") -> float:
        attention = self.attention_full if convention == "full" else self.attention_causal
        return self.matmul + attention + self.recurrence

    def training(self, convention: Convention = "full") -> float:
        """Forward and backward."""
        return 3 * (self.forward(convention) + self.multi_token)


def count_flops(cfg: DecoderConfig, context: int | None = None) -> Flops:
    """FLOPs of one token in sequences of `context` tokens (None: the model's `max_positions`)."""
    context = cfg.max_positions if context is None else context
    parameters, head = count_parameters(cfg), cfg.vocab_size * cfg.d_model
    attending = [i for i in range(cfg.n_layers) if cfg.attends(i)]
    per_seen = 2 * cfg.n_heads * attention_width(cfg)
    return Flops(
        context=context,
        matmul=2.0 * (parameters.active_non_embedding + head),
        attention_full=float(per_seen * len(attending) * context),
        attention_causal=sum(per_seen * mean_seen(context, cfg.layer_window(i)) for i in attending),
        recurrence=float(recurrence_flops(cfg)),
        multi_token=2.0 * (parameters.active_multi_token + cfg.mtp_heads * head),
    )


def attention_width(cfg: DecoderConfig) -> int:
    """Width of a query's dot product plus width of a value: 2 D."""
    if isinstance(cfg.attention, Mla):
        return cfg.attention.qk_nope_head_dim + cfg.attention.qk_rope_head_dim + cfg.attention.v_head_dim
    return 2 * cfg.head_size


def recurrence_flops(cfg: DecoderConfig) -> int:
    """Of one token through the states of all recurrent layers, one token at a time.

    A number of the state is multiplied by a decay (1), gets a product added (2) and takes part in what is read (2); the delta
    rule first reads what the key holds (2). Training computes chunks at once, which costs more operations and less time.
    """
    layers = sum(cfg.layer_kind(i) == "recurrent" for i in range(cfg.n_layers))
    if cfg.recurrent is None:
        return 0
    return layers * (5 if isinstance(cfg.recurrent, Mamba2) else 7) * math.prod(cfg.recurrent.state)


def mean_seen(context: int, window: int | None = None) -> float:
    """Tokens a token sees, itself included, on average over a sequence: mean of min(i, window) for i = 1 .. context."""
    w = min(context, window or context)
    return (w * (w + 1) / 2 + (context - w) * w) / context
