"""From a number a token to one loss: who gets how much weight.

    token           sum over all tokens / all tokens                     DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 8)
    sequence-mean   mean over responses of the mean over tokens          GRPO (Shao et al. 2024, eq. 3)
    sequence-sum    mean over responses of the sum over tokens           REINFORCE: the gradient of log pi(response)
    fixed-length    the same divided by a constant length                Dr. GRPO (Liu et al. 2025, listing 1)

Under "sequence-mean" a token of a long response counts less, so long wrong answers are punished less a token. Each is a
(sum, weight) that adds over micro-batches cut between responses: how a batch was split does not show.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from orrery.kit.errors import OrreryError
from orrery.train.loss import Loss
from orrery.tune.rl.responses import runs

Aggregation = Literal["token", "sequence-mean", "sequence-sum", "fixed-length"]


def aggregate(values: Tensor, owner: Tensor, kind: Aggregation, *, max_length: int | None = None) -> Loss:
    """Values (T,) of tokens as a loss; `max_length` is the constant of "fixed-length", in tokens.

    Raises:
        OrreryError: "fixed-length" without `max_length`.
    """
    lengths = runs(owner).lengths
    responses = values.new_tensor(len(lengths))
    match kind:
        case "token":
            return Loss(values.sum(), values.new_tensor(len(values)))
        case "sequence-mean":
            share = 1 / lengths.to(values.dtype).repeat_interleave(lengths)
            return Loss((values * share).sum(), responses)
        case "sequence-sum":
            return Loss(values.sum(), responses)
        case "fixed-length":
            if max_length is None:
                raise OrreryError(
                    "aggregation 'fixed-length' divides by a constant; give max_length, in tokens"
                )
            return Loss(values.sum(), responses * max_length)
