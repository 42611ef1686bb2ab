"""An encoder: every token sees its whole sequence (BERT, Devlin et al. 2018, arXiv:1810.04805).

The layers are a decoder's under a bidirectional context; an encoder adds what stands before and after them: token types, a
pooler, and the head that names masked tokens.

    hidden = encoder(tokens, Packed(lengths, causal=False))       # (T, d)
    logits = encoder.head(hidden)                                 # (T, V), of the masked-LM head
    pooled = encoder.pooled(hidden, lengths)                      # (sequences, d)

T tokens, d model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.describe import Component, describe
from orrery.model.limits import check_fields
from orrery.model.mlp import ACTIVATIONS, Activation
from orrery.model.norm import make_norm
from orrery.model.reset import draw


@config
class MaskedLm:
    """The head that names masked tokens: project, activate, norm, then the product with every token's embedding.

    Attributes:
        bias: of the projection.
        output_bias: one number a token of the vocabulary is added to the logits.
    """

    activation: Activation = "gelu"
    bias: bool = True
    output_bias: bool = True


@config
class EncoderConfig:
    """An encoder.

    Attributes:
        stack: embedding and layers. `tied` says whether the masked-LM head uses the embedding.
        token_types: how many kinds of segment a token can belong to (BERT: 2, first and second text); 0: none are told apart.
        pooler: tanh of a projection of each sequence's first token.
        next_sentence: two logits on what the pooler gives: the second text follows the first, or not.

    Raises:
        OrreryError: the settings do not fit together.
    """

    stack: DecoderConfig
    token_types: int = 0
    pooler: bool = False
    next_sentence: bool = False
    masked_lm: MaskedLm | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.stack.cross_attention:
            raise OrreryError(
                "an encoder reads no memory; cross_attention belongs to the decoder of an encoder-decoder"
            )
        if self.next_sentence and not self.pooler:
            raise OrreryError("next_sentence reads what the pooler gives; set pooler=true")
        if not self.stack.tied and (self.masked_lm is None or self.stack.head_bias):
            raise OrreryError("an untied stack is for a masked_lm head, which has a bias of its own")

    @property
    def vocab_size(self) -> int:
        return self.stack.vocab_size

    @property
    def d_model(self) -> int:
        return self.stack.d_model

    @property
    def max_positions(self) -> int:
        return self.stack.max_positions

    @property
    def tied(self) -> bool:
        return self.stack.tied


class Encoder(nn.Module):
    """The model an `EncoderConfig` describes, with weights drawn from `seed`."""

    def __init__(self, cfg: EncoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.surgery: list[dict[str, Any]] = []
        d = cfg.d_model
        self.stack = Decoder(cfg.stack, seed=seed)
        self.type_embed = nn.Embedding(cfg.token_types, d) if cfg.token_types else None
        self.pooler = nn.Linear(d, d) if cfg.pooler else None
        self.next_sentence = nn.Linear(d, 2) if cfg.next_sentence else None
        self.lm_head = MaskedLmHead(cfg.stack, cfg.masked_lm) if cfg.masked_lm else None
        self.reset_parameters(seed)

    def forward(self, tokens: Tensor, ctx: Context, types: Tensor | None = None) -> Tensor:
        """(T,) token ids, and (T,) token types (None: all 0) -> (T, d) hidden states.

        Raises:
            OrreryError: the context hides later tokens, or a sequence is longer than a learned table of positions.
        """
        if ctx.causal:
            raise OrreryError("an encoder reads in both directions; give it Packed(lengths, causal=False)")
        x = self.stack.embed_tokens(tokens)
        if self.type_embed is not None:
            x = x + self.type_embed(torch.zeros_like(tokens) if types is None else types)
        return self.stack.run(x, ctx)

    def head(self, hidden: Tensor) -> Tensor:
        """(T, d) -> (T, V) logits for the token at each place.

        Raises:
            OrreryError: the encoder has no masked-LM head.
        """
        if self.lm_head is None:
            raise OrreryError(
                "this encoder has no head for masked tokens; open a model that was saved with one"
            )
        logits = self.stack.head(self.lm_head(hidden))
        return logits if self.lm_head.bias is None else logits + self.lm_head.bias

    def pooled(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """(T, d) hidden states of sequences of `lengths` -> (sequences, d), from each one's first token.

        Raises:
            OrreryError: the encoder has no pooler.
        """
        if self.pooler is None:
            raise OrreryError(
                "this encoder has no pooler; take the mean of its hidden states or the first of them"
            )
        ends = torch.tensor(lengths, device=hidden.device).cumsum(0)
        return self.pooler(hidden[ends - torch.tensor(lengths, device=hidden.device)]).tanh()

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.stack.dtype

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.stack.device

    def reset_parameters(self, seed: int = 0) -> None:
        """Draw every weight anew (see `model.reset`)."""
        draw(self, self.cfg.stack.init.std, seed)

    def num_parameters(self) -> int:
        """Weights, each counted once."""
        return sum(row.parameters for row in describe(self))

    def describe(self) -> list[Component]:
        """Every tensor with its component, shape and size."""
        return describe(self)


class MaskedLmHead(nn.Module):
    """What comes before the product with the embeddings, and the bias that is added after it."""

    def __init__(self, stack: DecoderConfig, cfg: MaskedLm) -> None:
        super().__init__()
        self.dense = nn.Linear(stack.d_model, stack.d_model, bias=cfg.bias)
        self.activation = ACTIVATIONS[cfg.activation]
        self.norm = make_norm(stack)
        self.bias = nn.Parameter(torch.zeros(stack.vocab_size)) if cfg.output_bias else None

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, d) -> (T, d)."""
        return self.norm(self.activation(self.dense(hidden)))
