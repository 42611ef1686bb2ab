"""Fisher information and the natural gradient, for models small enough to hold the matrix.

    F = E_{y ~ p(y|w)} [ g g^T ],  g = d log p(y|w) / d w          = - E [ Hessian of log p ]
    natural step   w <- w - lr F^-1 d L / d w                      (Amari 1998)

F measures how far the *distribution* moves when the weights do (KL to second order), so the natural step does
not depend on how the distribution is written down in weights. With outcomes from the data in place of the
model's own, E becomes the empirical Fisher, which equals F only where the model fits (Kunstner et al. 2019,
arXiv:1905.12558).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

LogLikelihoods = Callable[[Tensor], Tensor]
"""Weights (P,) -> log-likelihoods (N,), one for each outcome."""


def fisher_information(
    log_likelihoods: LogLikelihoods, weights: Tensor, probabilities: Tensor | None = None
) -> Tensor:
    """sum_n q_n g_n g_n^T, (P, P).

    Args:
        log_likelihoods: of every possible outcome, with `probabilities` the model's own (then this is F
            exactly); or of N outcomes drawn from it or from the data, each counted as 1 / N.
    """
    scores = jacobian(log_likelihoods, weights)  # (N, P)
    q = scores.new_full((len(scores),), 1 / len(scores)) if probabilities is None else probabilities
    return scores.t() @ (q[:, None] * scores)


def expected_curvature(log_likelihoods: LogLikelihoods, weights: Tensor, probabilities: Tensor) -> Tensor:
    """- E [ Hessian of log p ], (P, P): the same matrix by another way."""
    return -hessian(lambda w: probabilities @ log_likelihoods(w), weights)


def natural_gradient(fisher: Tensor, gradient: Tensor, *, damping: float = 0.0) -> Tensor:
    """(F + damping I)^-1 gradient; damping is for directions that leave the distribution as it is."""
    return torch.linalg.solve(fisher + damping * torch.eye(len(fisher), dtype=fisher.dtype), gradient)
