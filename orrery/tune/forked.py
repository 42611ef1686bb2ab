"""Answers to one prompt read in one pass: the prompt's tokens are computed once.

    stored   prompt . rest of answer 1 . rest of answer 2 . ...          every layer but attention works on these
    whole    prompt answer 1 . prompt answer 2 . ...                     attention sees these

A token's state depends on what stands before it, which is one prompt for all answers to it; so only attention needs the whole
sequences, and gets them by indexing. With short answers most of a pass is the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.context import Context, Site, Step
from orrery.model.packed import Whole


class Forked(Context):
    """One pass over stored tokens.

    Args:
        whole: the context of the whole sequences.
        index: (W,) which stored token stands at each place of the whole sequences.
        back: (T,) a place in the whole sequences where each stored token stands.
        lengths: of the runs in which tokens are stored.
    """

    def __init__(self, whole: Whole, index: Tensor, back: Tensor, lengths: Sequence[int]) -> None:
        super().__init__()
        self.whole, self.index, self.back = whole, index, back
        self.lengths, self.max_length = tuple(lengths), whole.max_length
        self.positions = whole.positions[back]

    def begin(self) -> None:
        super().begin()
        self.whole.begin()

    def attend(self, site: Site, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.index_select(0, self.index) for x in (q, k, v))
        return self.whole.attend(site, q, k, v).index_select(0, self.back)

    def recur(self, site: nn.Module, x: Tensor, step: Step) -> Tensor:
        raise OrreryError("a layer with state over time reads whole sequences; share no prompt")


def layout(
    prefixes: Sequence[int], tails: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, list[int], list[int]]:
    """How prompts of `prefixes` tokens, each with the tails (in tokens) of its answers, are stored and read.

    Returns:
        index (W,) and back (T,) as `Forked` takes them, the lengths of the whole sequences, and for each answer, in the order given, where
        its tail begins among the stored tokens. Whole sequences of equal length lie side by side.
    """
    stored, sequences, begins = 0, [], []
    for prefix, group in zip(prefixes, tails, strict=True):
        head, stored = range(stored, stored + prefix), stored + prefix
        for tail in group:
            sequences.append((*head, *range(stored, stored + tail)))
            begins.append(stored)
            stored += tail
    sequences.sort(key=len)
    index = torch.tensor([place for sequence in sequences for place in sequence])
    back = torch.empty(stored, dtype=torch.int64)
    back[index.flip(0)] = torch.arange(len(index)).flip(0)  # of several places the first
    return index, back, [len(sequence) for sequence in sequences], begins
