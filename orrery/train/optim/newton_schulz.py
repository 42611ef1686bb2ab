"""Newton-Schulz: a few matrix products that push every singular value of a matrix towards 1.

    X_0 = G / ||G||_F,     X <- a X + (b A + c A^2) X,   A = X X^T

The odd polynomial p(s) = a s + b s^3 + c s^5 acts on each singular value s and leaves the singular vectors, so
U S V^T becomes about U V^T, the nearest orthogonal matrix, with no decomposition. The quintic coefficients
(Jordan et al. 2024, Muon) do not converge: they trade exactness for slope at 0 and leave singular values
between about 0.7 and 1.2. (2, -1.5, 0.5) converges to 1.

Legend: n rows, m columns, n <= m.
"""

from __future__ import annotations

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]
MUON: Coefficients = (3.4445, -4.7750, 2.0315)
CONVERGENT: Coefficients = (2.0, -1.5, 0.5)


def newton_schulz(
    matrices: Tensor,
    steps: int = 5,
    *,
    coefficients: Coefficients = MUON,
    dtype: torch.dtype = torch.float32,
    eps: float = 1e-7,
) -> Tensor:
    """Orthogonalise a matrix (n, m) or each of a stack (N, n, m), in `dtype`; the result keeps that dtype.

    Cost: 4 n^2 m + 2 n^3 operations a step, or 8 n^3 a step for wide ones in float32.
    """
    x = matrices.to(dtype)
    if x.shape[-2] > x.shape[-1]:
        return newton_schulz(x.mT, steps, coefficients=coefficients, dtype=dtype, eps=eps).mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    wide = x.shape[-1] >= 2 * x.shape[-2] and steps <= 5 and dtype in (torch.float32, torch.float64)
    return _on_gram(x, steps, coefficients) if wide else _on_matrix(x, steps, coefficients)


def _on_matrix(x: Tensor, steps: int, coefficients: Coefficients) -> Tensor:
    a, b, c = coefficients
    multiply, add = (torch.mm, torch.addmm) if x.ndim == 2 else (torch.bmm, torch.baddbmm)
    for _ in range(steps):
        gram = multiply(x, x.mT)
        x = add(x, add(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # a X + (b A + c A^2) X
    return x


def _on_gram(x: Tensor, steps: int, coefficients: Coefficients) -> Tensor:
    """The same polynomial on the small side: X_k = Q_k X_0 with Q <- P Q, A <- P A P, P = a I + b A + c A^2.

    A stays a Gram matrix only up to rounding, which grows by a^2 a step: for few steps in float32.
    """
    a, b, c = coefficients
    multiply, add = (torch.mm, torch.addmm) if x.ndim == 2 else (torch.bmm, torch.baddbmm)
    gram, total = multiply(x, x.mT), None
    for step in range(steps):
        p = add(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        total = p if total is None else multiply(p, total)
        if step < steps - 1:
            gram = multiply(multiply(p, gram), p)
    return x if total is None else multiply(total, x)
