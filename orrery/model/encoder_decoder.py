"""An encoder-decoder: one stack reads a source in both directions, another writes while it looks at what the first made.

    memory = model.encode(source, Packed(source_lengths, causal=False))
    hidden = model(tokens, Packed(lengths, memory=memory))
    logits = model.head(hidden)

Vaswani et al. 2017, arXiv:1706.03762; T5: Raffel et al. 2019, arXiv:1910.10683. T tokens, S tokens of the sources, d model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.model.cache import CacheSpec
from orrery.model.config import DecoderConfig
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.describe import Component, describe
from orrery.model.limits import check_fields
from orrery.model.memory import Memory
from orrery.model.reset import draw


@config
class EncoderDecoderConfig:
    """Two stacks over one vocabulary.

    Attributes:
        encoder: reads the source; it has no head.
        decoder: has cross_attention; its head is the model's.
        start_id: the token that stands before everything the decoder writes.

    Both use one embedding.

    Raises:
        OrreryError: the stacks do not fit together.
    """

    encoder: DecoderConfig
    decoder: DecoderConfig
    start_id: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.decoder.cross_attention or self.encoder.cross_attention:
            raise OrreryError("an encoder-decoder has cross_attention in its decoder, and in it alone")
        if not self.encoder.tied:
            raise OrreryError("the encoder of an encoder-decoder has no head; leave its `tied` as it is")
        for name in ("vocab_size", "d_model"):
            one, other = getattr(self.encoder, name), getattr(self.decoder, name)
            if one != other:
                raise OrreryError(
                    f"the stacks share an embedding, so {name} must be one, not {one} and {other}"
                )

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def d_model(self) -> int:
        return self.decoder.d_model

    @property
    def max_positions(self) -> int:
        return self.decoder.max_positions

    @property
    def tied(self) -> bool:
        return self.decoder.tied


class EncoderDecoder(nn.Module):
    """The model an `EncoderDecoderConfig` describes, with weights drawn from `seed`."""

    def __init__(self, cfg: EncoderDecoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.cfg = cfg
        self.surgery: list[dict[str, Any]] = []
        self.encoder = Decoder(cfg.encoder, seed=seed)
        self.decoder = Decoder(cfg.decoder, seed=seed)
        self.decoder.embed = self.encoder.embed
        self.reset_parameters(seed)

    def encode(self, source: Tensor, ctx: Context) -> Memory:
        """(S,) token ids of sources laid end to end -> what the decoder reads.

        Raises:
            OrreryError: the context hides later tokens.
        """
        if ctx.causal:
            raise OrreryError("an encoder reads in both directions; give it Packed(lengths, causal=False)")
        return Memory(self.encoder(source, ctx), ctx.lengths)

    def forward(self, tokens: Tensor, ctx: Context) -> Tensor:
        """(T,) token ids -> (T, d) hidden states of the decoder.

        Raises:
            OrreryError: the context has no memory.
        """
        return self.decoder(tokens, ctx)

    def head(self, hidden: Tensor) -> Tensor:
        """(T, d) -> (T, V) logits of the next token."""
        return self.decoder.head(hidden)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.decoder.dtype

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.decoder.device

    def reset_parameters(self, seed: int = 0) -> None:
        """Draw every weight anew (see `model.reset`)."""
        draw(self, self.cfg.decoder.init.std, seed)

    def cache_spec(self) -> list[CacheSpec]:
        """What the decoder's own attention keeps for each token it writes."""
        return self.decoder.cache_spec()

    def num_parameters(self, *, active: bool = False) -> int:
        """Weights, each counted once; `active` counts those a token passes through."""
        return sum(row.active if active else row.parameters for row in describe(self))

    def describe(self) -> list[Component]:
        """Every tensor with its component, shape and size."""
        return describe(self)
