"""Newton-Schulz: a few matrix products that push every singular value of a matrix towards 1.

    X_0 = G / ||G||_F,     X <- a X + (b A + c A^2) X,   A = X X^T

The odd polynomial p(s) = a s + b s^3 + c s^5 acts on each singular value s and leaves the singular vectors,
so U S V^T becomes about U V^T, the nearest orthogonal matrix, with no decomposition. The quintic coefficients
(Jordan et al. 2024, Muon) do not
converge: they trade exactness for slope at 0 and leave singular values between about 0.7 and 1.2. (2, -1.5,
0.5) converges to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

MUON = (3.4445, -4.7750, 2.0315)
CONVERGENT = (2.0, -1.5, 0.5)


def newton_schulz(
    matrices: Tensor,
    steps: int = 5,
    *,
    coefficients: tuple[float, float, float] = MUON,
    dtype: torch.dtype = torch.float32,
    eps: float = 1e-7,
) -> Tensor:
    """Orthogonalise each matrix of a stack (..., n, m), in `dtype`; the result keeps that dtype.

    Cost: about 4 k^2 l + 2 k^3 operations a step, with k the smaller side and l the larger.
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT.to(dtype) if tall else matrices.to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x
