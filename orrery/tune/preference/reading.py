"""What a model says of answers: the log-probability of each, from logits that exist only where an id is to be written.

log pi(y|x) = sum_t log softmax(z_t)[y_t]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orrery.model.decoder import Decoder
from orrery.tune.preference.answers import Item
from orrery.tune.preference.batches import AnswerBatch, batch_of_items
from orrery.tune.preference.token_logprobs import token_logprobs

READ_AT_ONCE = 16
"""Items in a pass that only reads."""


def answer_logprobs(model: Decoder, batch: AnswerBatch, ctx: Any = None) -> Tensor:
    """(A,) nats, differentiable where gradients are on."""
    hidden = model(batch.tokens, batch.context() if ctx is None else ctx)
    logprobs = token_logprobs(hidden.index_select(0, batch.rows), model, batch.wanted)
    return logprobs.new_zeros(len(batch.written)).index_add(0, batch.owner, logprobs)


@torch.no_grad()
def read_items(
    model: Decoder, items: Sequence[Item], *, share: bool = True, virtual: int = 0, others: bool = False
) -> list[Tensor]:
    """For each item the log-probabilities of its answers; `others`: of the answers that belong to other prompts instead.

    Items of like length are read together; what is read beside an item changes its numbers by rounding at most.
    """
    asked = [item.other if others and item.other is not None else item for item in items]
    order = sorted(range(len(asked)), key=lambda i: asked[i].longest)
    found: list[Tensor] = [torch.empty(0)] * len(asked)
    for at in range(0, len(order), READ_AT_ONCE):
        part = order[at : at + READ_AT_ONCE]
        batch = batch_of_items([asked[i] for i in part], share=share, virtual=virtual).to(model.device)
        read = answer_logprobs(model, batch).cpu().split([len(asked[i].tails) for i in part])
        for i, logprobs in zip(part, read, strict=True):
            found[i] = logprobs
    return found
