"""VAPO's further term: imitate the answers that were right.

    L = L_policy - mu (1 / |tokens of correct responses|) sum log pi        (Yue et al. 2025, arXiv:2504.05118, section 4.3)

Where correct answers are rare, each is worth more than one policy-gradient step makes of it.
"""

from __future__ import annotations

from torch import Tensor

from orrery.train.loss import Loss


def positive_example_loss(logprobs: Tensor, correct: Tensor) -> Loss:
    """Negative log-likelihood of the tokens (T,) whose response is correct, (T,) bool; the weight is their number."""
    kept = correct.to(logprobs.dtype)
    return Loss(-(logprobs * kept).sum(), kept.sum())
