"""A classifier on a language model: the head over the vocabulary gives way to one over K classes (Radford et al. 2018; Devlin et
al. 2018, arXiv:1810.04805).

    model = Classifier(decoder, classes=3)
    model.train_only("head")                         # or "all"
    logits = model(tokens, Packed(lengths))          # (sequences, 3)

The hidden states of a sequence become one vector, and a linear map of d K + K weights makes logits of it. Training the head
alone asks what the backbone knows already; training all of it moves the backbone to the task.

T tokens, d model width, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.context import Context
from orrery.model.decoder import Decoder
from orrery.model.encoder import Encoder
from orrery.model.reset import draw

Pool = Literal["mean", "first", "last"]

UNUSED = frozenset({"lm_head", "mtp", "next_sentence", "pooler"})
"""Parts of a backbone that its hidden states do not pass; they are never trained here."""


class Classifier(nn.Module):
    """A backbone with a K-way head in place of its own.

    Args:
        backbone: a decoder or an encoder, trained or fresh; it is shared, not copied.
        classes: K.
        pool: the vector of a sequence: the mean of its tokens, the first (encoders), or the last (what a decoder has read).
        seed: of the head's weights.

    Raises:
        OrreryError: fewer than two classes.
    """

    def __init__(
        self, backbone: Decoder | Encoder, *, classes: int, pool: Pool = "mean", seed: int = 0
    ) -> None:
        super().__init__()
        if classes < 2:
            raise OrreryError(f"a classifier needs at least 2 classes to choose from, not {classes}")
        self.backbone, self.pool = backbone, pool
        self.head = nn.Linear(backbone.cfg.d_model, classes, device=backbone.device, dtype=backbone.dtype)
        draw(self.head, 0.02, seed)
        self.train_only("all")

    def forward(self, tokens: Tensor, ctx: Context) -> Tensor:
        """(T,) token ids of sequences laid end to end -> (sequences, K) logits.

        Raises:
            OrreryError: pool is "first" under a causal context, whose first token has seen nothing else.
        """
        if ctx.causal and self.pool == "first":
            raise OrreryError(
                'the first token of a causal model has seen itself alone; pool by "last" or "mean"'
            )
        return self.head(pooled(self.backbone(tokens, ctx), ctx.lengths, self.pool))

    def train_only(self, what: Literal["head", "all"]) -> None:
        """Which weights get gradients: the new head's, or also the backbone's (without the heads it had)."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(what == "all" and UNUSED.isdisjoint(name.split(".")))

    def trainable(self) -> int:
        """Weights that get gradients."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def pooled(hidden: Tensor, lengths: tuple[int, ...], pool: Pool) -> Tensor:
    """(T, d) hidden states of sequences of `lengths` -> (sequences, d)."""
    sizes = torch.tensor(lengths, device=hidden.device)
    ends = sizes.cumsum(0)
    match pool:
        case "first":
            return hidden[ends - sizes]
        case "last":
            return hidden[ends - 1]
    owner = torch.arange(len(lengths), device=hidden.device).repeat_interleave(sizes)  # (T,)
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / sizes[:, None]
