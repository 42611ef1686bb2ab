"""Fisher information in closed form, and steps that do not depend on coordinates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

from orrery.train.fisher import expected_curvature, fisher_information, natural_gradient


def test_categorical() -> None:
    """diag(p) - p p^T in logits, both as E[g g^T] and as the expected curvature."""
    logits = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
    p = logits.softmax(0)
    expected = p.diag() - torch.outer(p, p)

    def outcomes(w: Tensor) -> Tensor:
        return w.log_softmax(0)

    torch.testing.assert_close(fisher_information(outcomes, logits, p), expected)
    torch.testing.assert_close(expected_curvature(outcomes, logits, p), expected)


def test_gaussian() -> None:
    """N(mean, e^(2 s)): F = diag(e^(-2 s), 2), the expectation by Gauss-Hermite quadrature, exact to degree 19."""
    nodes, masses = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(10))
    weights = torch.tensor([0.5, 0.3], dtype=torch.float64)
    samples, q = 0.5 + math.exp(0.3) * nodes, masses / masses.sum()

    def log_likelihoods(w: Tensor) -> Tensor:
        return -0.5 * ((samples - w[0]) / w[1].exp()).square() - w[1]

    expected = torch.tensor([[math.exp(-0.6), 0.0], [0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(fisher_information(log_likelihoods, weights, q), expected)
    torch.testing.assert_close(expected_curvature(log_likelihoods, weights, q), expected)


def test_empirical_fisher_is_another_matrix_where_the_model_is_wrong() -> None:
    logits = torch.zeros(2, dtype=torch.float64)
    data = torch.tensor([0.9, 0.1], dtype=torch.float64)
    true = fisher_information(lambda w: w.log_softmax(0), logits, logits.softmax(0))
    assert torch.allclose(
        true, fisher_information(lambda w: w.log_softmax(0), logits, data)
    )  # |g| is equal here
    skewed = torch.tensor([1.0, 0.0], dtype=torch.float64)
    true = fisher_information(lambda w: w.log_softmax(0), skewed, skewed.softmax(0))
    assert not torch.allclose(true, fisher_information(lambda w: w.log_softmax(0), skewed, data), rtol=0.1)


@pytest.mark.parametrize("p", [0.5, 0.2, 0.02])
def test_natural_step_is_the_same_in_every_coordinate(p: float) -> None:
    """A coin, loss -0.9 log p - 0.1 log(1 - p), as a probability and as a logit: dp agrees to second order."""
    data, step = torch.tensor([0.9, 0.1], dtype=torch.float64), 1e-5

    def moved(log_likelihoods: object, to_p: object, w: float) -> tuple[float, float]:
        weights = torch.tensor([w], dtype=torch.float64)
        gradient = jacobian(lambda x: -data @ log_likelihoods(x), weights)  # type: ignore[operator]
        q = torch.tensor([p, 1 - p], dtype=torch.float64)
        natural = natural_gradient(fisher_information(log_likelihoods, weights, q), gradient)  # type: ignore[arg-type]
        return to_p(weights - step * gradient).item() - p, to_p(weights - step * natural).item() - p  # type: ignore[operator]

    as_p = moved(lambda w: torch.cat((w.log(), (1 - w).log())), lambda w: w, p)
    as_logit = moved(
        lambda w: torch.cat((torch.nn.functional.logsigmoid(w), torch.nn.functional.logsigmoid(-w))),
        torch.sigmoid,
        math.log(p / (1 - p)),
    )
    assert as_p[1] == pytest.approx(as_logit[1], rel=1e-3)
    assert as_p[0] != pytest.approx(as_logit[0], rel=0.5)
    assert as_p[1] == pytest.approx(step * (0.9 - p), rel=1e-3)  # F^-1 g = p - 0.9


def test_damping_for_directions_that_change_nothing() -> None:
    """Softmax logits have one: adding the same to all."""
    logits = torch.zeros(3, dtype=torch.float64)
    fisher = fisher_information(lambda w: w.log_softmax(0), logits, logits.softmax(0))
    step = natural_gradient(fisher, torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64), damping=1e-6)
    torch.testing.assert_close(
        step, torch.tensor([3.0, -3.0, 0.0], dtype=torch.float64), rtol=1e-4, atol=1e-4
    )
