"""Tokens that nobody trained: a base model holds rows for the control tokens of its makers' chat format, but never met them.

The rows of such tokens are all but the same, in gemma-3-270m those of some six thousand. A head that does not learn, as beside an
adapter, gives all of them the same logit whatever stands before: a model taught to end its turns with one of them ends none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.model.decoder import Decoder

ALIKE = 0.1
"""Squared distance of two rows, relative to their size, below which they are twins: of equal length, a cosine above 0.95."""
MANY = 100
"""Twins of a token that was never trained, at least."""
_ROWS = 1 << 13


def untrained(model: Decoder, token: int) -> bool:
    """Whether the head cannot tell `token` from `MANY` others."""
    return twins(model, token) >= MANY


@torch.no_grad()
def twins(model: Decoder, token: int) -> int:
    """How many other tokens have a row of the head that is all but this one's: |r - r'|^2 <= ALIKE |r|^2."""
    head = model.embed if model.lm_head is None else model.lm_head
    vocab = model.cfg.vocab_size
    row = _rows(head, token, token + 1).double()
    size = float(row.square().sum())
    found = -1  # itself
    for first in range(0, vocab, _ROWS):
        rows = _rows(head, first, min(first + _ROWS, vocab)).double()
        found += int(((rows - row).square().sum(1) <= ALIKE * size).sum())
    return found


def _rows(head: nn.Module, first: int, last: int) -> Tensor:
    """(last - first, d) of a table or a linear layer, quantised or not."""
    matrix = getattr(head, "matrix", None)
    return head.weight[first:last] if matrix is None else matrix.piece(first, last)  # type: ignore[bad-index]
