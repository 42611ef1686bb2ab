"""NEFTune: noise on the embeddings while training, so that answers are learned less by heart.

    x + (alpha / sqrt(L d)) u,   u uniform in [-1, 1],   L the tokens of the example, d the width

Jain et al. 2023, arXiv:2310.05914, algorithm 1 (alpha of 5 to 15). The noise is drawn from the generator that the training step
seeds by (seed, step, micro-batch), so a run that is resumed draws the same; nothing is added outside of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from orrery.model.context import Context
from orrery.model.decoder import Decoder


def noise(lengths: Sequence[int], width: int, alpha: float, device: torch.device | str = "cpu") -> Tensor:
    """(T, d) noise for examples of these lengths, laid end to end."""
    sizes = torch.tensor(list(lengths), device=device)
    size = (alpha / (sizes * width).sqrt()).repeat_interleave(sizes)
    return (2 * torch.rand(int(sizes.sum()), width, device=device) - 1) * size[:, None]


@contextmanager
def neftune(model: Decoder, alpha: float) -> Iterator[None]:
    """Within the block the model trains on noisy embeddings; in eval mode, or without gradients, it is as ever."""

    def forward(tokens: Tensor, ctx: Context) -> Tensor:
        x = model.embed_tokens(tokens)
        if model.training and torch.is_grad_enabled():
            x = x + noise(ctx.lengths, model.cfg.d_model, alpha, x.device).to(x.dtype)
        return model.run(x, ctx)

    model.forward = forward  # type: ignore[bad-assignment]
    try:
        yield
    finally:
        del model.forward  # the class's own is seen again
