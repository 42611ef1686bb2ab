"""From logits to an id: the largest, or a draw by one uniform number that is a function of (seed, request, position) alone.

So a request gives the same tokens alone, in a batch, or resumed.

V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orrery.kit.lm import Sampling
from orrery.kit.seeds import uniform
from orrery.model.lowbit.ops import likeliest
from orrery.serve.sampling.filters import candidates
from orrery.serve.sampling.penalties import penalized


def choose(
    logits: Tensor,
    sampling: Sampling,
    *,
    before: Tensor,
    made: Tensor,
    u: float,
    coin: float = 0.0,
    ids: Sequence[int] = (),
) -> int:
    """The next token id: penalties, then the largest or a draw of what the filters leave.

    `Chooser` chooses the same and keeps the counts itself.

    Args:
        logits: (V,) of the model.
        before: (V,) int, how often each token stands in the prompt.
        made: (V,) int, how often each token was generated.
        u: a number in [0, 1), see `position_uniform`; not used when temperature is 0.
        coin: another, for XTC.
        ids: prompt and answer so far, for the penalties that look at their order.
    """
    logits = penalized(logits.float(), sampling, before=before, made=made, ids=ids)
    if sampling.temperature == 0:
        return greedy(logits)
    left, kept = candidates(logits, sampling, coin=coin)
    return int(left[draw(kept, u)])


def position_uniform(seed: int, request: str, position: int, purpose: str = "sample") -> float:
    """The number in [0, 1) that decides the token at `position` (tokens before it) of a request.

    purpose: "sample" for the draw, "xtc" for whether top choices are left out.
    """
    return uniform(seed, purpose, request, position)


def draw(logits: Tensor, u: float) -> int:
    """Inverse-transform sampling: the first id at which the cumulative probability, in order of ids, exceeds u."""
    cumulative = logits.double().softmax(-1).cumsum(-1)
    index = int(torch.searchsorted(cumulative, u * cumulative[-1], right=True))
    # Rounding may put u * total at the total itself: then it is the last id that has any probability.
    return index if index < len(logits) else int(torch.isfinite(logits).nonzero()[-1])


def greedy(logits: Tensor) -> int:
    """The likeliest token, the smallest id of equals."""
    return likeliest(logits)
