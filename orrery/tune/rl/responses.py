"""The flat axis of responses: tokens of all responses end to end, and sums, suffix sums and last tokens of each.

    owner = 0 0 0 1 1 4 4 4 4       three runs, of 3, 2 and 4 tokens

A response is a run of equal numbers in `owner`; the numbers may have gaps (a minibatch holds some of a batch's
responses), and a response without tokens is not there at all.

Legend: T response tokens, R runs, in their order on the axis.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Runs(NamedTuple):
    """`index` (T,) numbers the runs 0, 1, 2 ... ; `lengths` (R,) are their tokens; `last` (R,) where each ends."""

    index: Tensor
    lengths: Tensor
    last: Tensor


def runs(owner: Tensor) -> Runs:
    """The runs of `owner` (T,) int64."""
    _, index, lengths = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
    return Runs(index, lengths, lengths.cumsum(0) - 1)


def response_sums(values: Tensor, owner: Tensor) -> Tensor:
    """Sum of `values` (T,) over each run, (R,)."""
    found = runs(owner)
    return values.new_zeros(len(found.lengths)).index_add(0, found.index, values)


def response_means(values: Tensor, owner: Tensor) -> Tensor:
    """Mean of `values` (T,) over each run, (R,)."""
    return response_sums(values, owner) / runs(owner).lengths


def at_last_token(values: Tensor, owner: Tensor) -> Tensor:
    """(R,) values, one a run, laid on the last token of each; 0 elsewhere, (T,)."""
    return values.new_zeros(len(owner)).index_copy(0, runs(owner).last, values)


def suffix_sums(values: Tensor, owner: Tensor, decay: float | Tensor = 1.0) -> Tensor:
    """y_t = x_t + decay y_{t+1} within each run, (T,); `decay` is one number or one a run, (R,).

    The recursion goes over positions, all runs at once.
    """
    index, lengths, last = runs(owner)
    if not len(owner):
        return values
    place = torch.arange(len(owner), device=owner.device) - (last - lengths + 1)[index]
    table = values.new_zeros(int(lengths.max()), len(lengths))
    table[place, index] = values
    for t in range(len(table) - 2, -1, -1):
        table[t] += decay * table[t + 1]
    return table[place, index]
