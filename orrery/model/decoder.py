"""A decoder-only language model: tokens to hidden states to logits, with all that is about time left to a context.

T tokens, d model width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.block import make_block
from orrery.model.cache import CacheSpec
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.describe import Component, describe
from orrery.model.lowbit import ops
from orrery.model.mtp import MTP
from orrery.model.norm import make_norm
from orrery.model.positions import (
    Alibi,
    AlibiBias,
    Learned,
    LearnedPositions,
    Position,
    RotaryEmbedding,
    Sinusoidal,
    SinusoidalPositions,
    T5Relative,
    T5RelativeBias,
)
from orrery.model.probe import Probe
from orrery.model.recurrent import StateSpec
from orrery.model.reset import draw


class Decoder(nn.Module):
    """The model a `DecoderConfig` describes, with weights drawn from `seed`.

    `surgery` lists what `replace` did to it, as plain dicts for the receipt.
    """

    def __init__(self, cfg: DecoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.native = False  # by our compiled kernel: set in models that are for inference only
        self.surgery: list[dict[str, Any]] = []
        self.embed = nn.Embedding(cfg.vocab_size, cfg.d_model)
        self.embedded = Probe()
        self.position_embed = make_position_embedding(cfg.position, cfg.d_model)
        self.position_bias = make_position_bias(cfg.position, cfg.n_heads)
        self.embed_norm = make_norm(cfg) if cfg.embedding_norm != "none" else None
        self.dropout = nn.Dropout(cfg.dropout)
        self.blocks = nn.ModuleList(make_block(cfg, i, self.position_bias) for i in range(cfg.n_layers))
        # Post-norm layers end in a norm of their own.
        self.norm = nn.Identity() if cfg.placement == "post" else make_norm(cfg)
        self.lm_head = None if cfg.tied else nn.Linear(cfg.d_model, cfg.vocab_size, bias=cfg.head_bias)
        self.mtp = nn.ModuleList(
            MTP(cfg, k, self.embed_tokens, self.position_bias) for k in range(cfg.mtp_heads)
        )
        self.reset_parameters(seed)

    def forward(self, tokens: Tensor, ctx: Context) -> Tensor:
        """(T,) token ids -> (T, d) hidden states after the last norm.

        Raises:
            OrreryError: a sequence is longer than a learned table of positions.
        """
        return self.run(self.embed_tokens(tokens), ctx)

    def run(self, x: Tensor, ctx: Context) -> Tensor:
        """The same from embedded tokens (T, d), before positions are added."""
        if isinstance(self.cfg.position, Learned) and ctx.max_length > self.cfg.position.longest:
            raise OrreryError(
                f"a sequence of {ctx.max_length} tokens does not fit the model, which learned "
                f"{self.cfg.position.longest} positions; shorten it"
            )
        ctx.begin()
        x = self.embedded(x, ctx)
        if self.position_embed is not None:
            places = self.position_embed(ctx.positions).to(x.dtype)
            x = ops.add(x, places) if self.native else x + places
        if self.embed_norm is not None:
            x = self.embed_norm(x)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, ctx)
        return self.norm(x)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """(T,) -> (T, d), scaled, without positions."""
        x = self.embed(tokens)
        if self.cfg.embedding_scale is None:
            return x
        return ops.scaled(x, self.cfg.embedding_scale) if self.native else x * self.cfg.embedding_scale

    def head(self, hidden: Tensor) -> Tensor:
        """(T, d) -> (T, V) logits, scaled and soft-capped as the config says."""
        logits = self.lm_head(hidden) if self.lm_head is not None else tied_head(self.embed, hidden)
        scale, cap = self.cfg.logit_scale, self.cfg.logit_softcap
        if scale is not None:
            logits = ops.scaled(logits, scale) if self.native else logits * scale
        if cap is not None:
            logits = ops.soft_capped(logits, cap) if self.native else cap * torch.tanh(logits / cap)
        return logits

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in: that of its first weight (layers over quantised weights have none)."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.parameters()).device

    @property
    def turns_by_length(self) -> bool:
        """Whether positions turn by angles that depend on the length of the text (dynamic NTK, LongRoPE)."""
        return any(isinstance(m, RotaryEmbedding) and m.by_length for m in self.modules())

    def reset_parameters(self, seed: int = 0) -> None:
        """Draw every weight anew, matrices with the standard deviation cfg.init.std (see `model.reset`)."""
        draw(self, self.cfg.init.std, seed)

    def cache_spec(self) -> list[CacheSpec]:
        """What each layer with attention keeps for each token while generating."""
        return [block.attn.cache_spec() for block in self.blocks if block.attn is not None]  # type: ignore[missing-attribute]

    def state_spec(self) -> list[StateSpec]:
        """What each recurrent layer keeps for each sequence while generating."""
        return [block.recurrent.state_spec() for block in self.blocks if block.recurrent is not None]  # type: ignore[missing-attribute]

    def num_parameters(self, *, active: bool = False) -> int:
        """Weights, each counted once; `active` counts those a token passes through (experts: the chosen ones)."""
        if not active:
            return sum(row.parameters for row in describe(self))
        return sum(row.active for row in describe(self) if row.component != "multi_token")

    def describe(self) -> list[Component]:
        """Every tensor with its component, shape and size."""
        return describe(self)


def tied_head(embed: nn.Module, hidden: Tensor) -> Tensor:
    """(T, d) -> (T, V): the product with every token's embedding; a quantised table does it in its own way."""
    if hasattr(embed, "as_linear"):
        return embed.as_linear(hidden)  # type: ignore[not-callable]
    return F.linear(hidden, embed.weight)  # type: ignore[bad-argument-type]


def make_position_embedding(position: Position, d_model: int) -> nn.Module | None:
    """The module that adds positions to embeddings, where the scheme does."""
    match position:
        case Learned():
            return LearnedPositions(position, d_model)
        case Sinusoidal():
            return SinusoidalPositions(position, d_model)
    return None


def make_position_bias(position: Position, n_heads: int) -> nn.Module | None:
    """The module that adds positions to attention scores, where the scheme does; all layers share it."""
    match position:
        case Alibi():
            return AlibiBias(position, n_heads)
        case T5Relative():
            return T5RelativeBias(position, n_heads)
    return None
