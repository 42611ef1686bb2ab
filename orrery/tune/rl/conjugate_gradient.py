"""Solve A x = b for a symmetric positive definite A that is known only by its products with vectors.

    x_{k+1} = x_k + a_k p_k,  a_k = r_k.r_k / p_k.A p_k,  r_{k+1} = r_k - a_k A p_k,  p_{k+1} = r_{k+1} + b_k p_k
    b_k = r_{k+1}.r_{k+1} / r_k.r_k                                      (Hestenes & Stiefel 1952)

Exact after as many steps as there are unknowns, and often close enough after ten.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, *, iterations: int = 10, tolerance: float = 1e-10
) -> Tensor:
    """x (P,) with A x near b (P,); `product` is v -> A v. Stops where |r|^2 <= tolerance |b|^2."""
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    rr = r @ r
    enough = tolerance * rr
    for _ in range(iterations):
        if rr <= enough:
            break
        ap = product(p)
        step = rr / (p @ ap)
        x, r = x + step * p, r - step * ap
        rr, before = r @ r, rr
        p = r + (rr / before) * p
    return x
