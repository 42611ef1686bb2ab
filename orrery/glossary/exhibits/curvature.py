"""Exhibits of the shape of a loss: convex or not, and the Fisher information that measures it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from orrery.glossary.exhibit import Exhibit
from orrery.kit.seeds import torch_generator
from orrery.train.loss import cross_entropy
from orrery.train.optim.sgd import SGD

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def convex_and_not() -> Exhibit:
    """Gradient descent from eight starts: a convex loss has one answer, a wavy one several."""
    starts = [[-4.0 + 8.0 * i / 7] for i in range(8)]
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "log cosh (convex)": lambda w: (w - 1).cosh().log().sum(),
        "wavy (not convex)": lambda w: (0.05 * w.square() + (2 * w).cos()).sum(),
    }
    rows = []
    for name, loss in losses.items():
        broken = _chord_violations(loss)
        ends = []
        for start in starts:
            w = nn.Parameter(torch.tensor(start))
            optimizer = SGD([w], lr=0.1)
            for _ in range(400):
                optimizer.zero_grad()
                loss(w).backward()
                optimizer.step()
            ends.append(w.item())
        distinct = sorted({round(end, 2) + 0.0 for end in ends})
        rows.append((name, broken, len(distinct), ", ".join(f"{d:.2f}" for d in distinct)))
    return Exhibit(
        title="Where gradient descent ends from eight starts between -4 and 4",
        columns=("loss", "chords below the curve, of 1000", "different ends", "at"),
        rows=rows,
        reads="A convex function lies below each of its chords, so every descent ends in the same minimum. One violated chord is "
        "enough for several minima, and then the start decides.",
    )


def _chord_violations(loss: Callable[[Tensor], Tensor]) -> int:
    """Of 1000 random chords on [-5, 5], how many pass below the function somewhere (a proof that it is not convex)."""
    generator = torch_generator(0, "chords")
    ends = 10 * torch.rand(1000, 2, generator=generator) - 5
    share = torch.rand(1000, generator=generator)
    between = share * ends[:, 0] + (1 - share) * ends[:, 1]
    value = torch.stack([loss(x) for x in between])
    left, right = (torch.stack([loss(x) for x in ends[:, i]]) for i in (0, 1))
    return int((value > share * left + (1 - share) * right + 1e-5).sum())


def natural_gradient_coordinates() -> Exhibit:
    """A Bernoulli model in two coordinates: the gradient step depends on them, the natural gradient step does not."""
    data, eta = 0.9, 0.01
    one = torch.eye(2, dtype=torch.float64)
    rows = []
    for p in (0.5, 0.2, 0.02):
        logit = math.log(p / (1 - p))
        z = torch.tensor([[0.0, logit]], dtype=torch.float64, requires_grad=True)
        targets, weights = torch.tensor([1, 0]), torch.tensor([data, 1 - data])
        cross_entropy(z.expand(2, 2), lambda h: h @ one, targets, weights).sum.backward()
        assert z.grad is not None
        slope_logit = z.grad[0, 1].item()  # d loss / d logit = p - data
        slope_p = slope_logit / (p * (1 - p))  # the chain rule: d logit / d p = 1 / (p (1 - p))
        plain_logit = _sigmoid(logit - eta * slope_logit) - p
        plain_p = -eta * slope_p
        natural_logit = _sigmoid(logit - eta * slope_logit / (p * (1 - p))) - p  # F = p (1 - p) for a logit
        natural_p = -eta * slope_p * p * (1 - p)  # F = 1 / (p (1 - p)) for a probability
        rows.append((p, plain_logit, plain_p, natural_logit, natural_p))
    return Exhibit(
        title="Change of p in one step of size 0.01 on the loss of a coin that shows heads 90% of the time",
        columns=("p", "gradient in logits", "gradient in p", "natural in logits", "natural in p"),
        rows=rows,
        reads="The same loss, the same step size: the plain gradient moves p by amounts that depend on how p is written down. "
        "Multiplied by the inverse Fisher information both agree, up to the step's second order.",
    )


def fisher_is_the_hessian() -> Exhibit:
    """Fisher information of a categorical model three ways: the formula, squared gradients, and the Hessian."""
    logits = torch.tensor([1.0, 0.0, -1.0])
    p = logits.softmax(0)
    formula = p.diag() - torch.outer(p, p)
    outer = torch.zeros(3, 3)
    for target in range(3):  # the expectation over the model's own samples, taken exactly
        z = logits.clone()[None].requires_grad_()
        cross_entropy(z, lambda h: h, torch.tensor([target]), torch.ones(1)).sum.backward()
        assert z.grad is not None
        outer += p[target] * torch.outer(z.grad[0], z.grad[0])

    def expected_loss(z: Tensor) -> Tensor:
        return cross_entropy(z.expand(3, 3), lambda h: h, torch.arange(3), p).sum

    hessian = torch.autograd.functional.hessian(expected_loss, logits)
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    return Exhibit(
        title="Fisher information of softmax(1, 0, -1) in its logits",
        columns=("entry", "diag(p) - p p^T", "E[g g^T]", "Hessian of the expected loss"),
        rows=[
            (f"({i}, {j})", formula[i, j].item(), outer[i, j].item(), hessian[i][j].item()) for i, j in pairs
        ],
        reads="The mean outer product of log-likelihood gradients, under the model's own distribution, is the curvature of its "
        "expected loss. With the data's labels in place of the model's samples it would only be an estimate.",
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
