"""DoRA: length and direction of each row of a weight, learned apart.

    W' = m * (W + s B A) / ||W + s B A||       m (out,), norms of rows
    Liu et al. 2024, arXiv:2402.09353, eq. 5; the norm gets no gradient (section 4.3)

The squared norms need no copy of the weight: ||W + s B A||^2 = ||W||^2 + 2 s B . (W A^T) + s^2 B (A A^T) . B, row by row, and the
layer itself multiplies A by W, quantised or not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from orrery.model.adapters.low_rank import LowRank
from orrery.model.adapters.part import Part, Rows, float_weight, product, versions


class Dora(Part):
    """A low-rank change of the direction, and the length of each row."""

    squares: Tensor

    def __init__(self, low: LowRank, squares: Tensor, magnitude: Tensor | None = None) -> None:
        super().__init__()
        self.low = low
        length = squares.sqrt() if magnitude is None else magnitude.float()
        self.magnitude = nn.Parameter(length.clone(), requires_grad=False)  # (out,)
        self.register_buffer("squares", squares)  # (out,) squared norms of the base's rows
        self._gain: tuple[tuple[int, ...], Tensor] | None = None

    @classmethod
    def of(cls, layer: nn.Module, low: LowRank, magnitude: Tensor | None = None) -> Dora:
        """Beside `layer`, whose row lengths are where m begins."""
        return cls(low, float_weight(layer).square().sum(1), magnitude)

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        bias: Tensor | None = module.bias  # type: ignore[bad-assignment]
        straight = y if bias is None else y - bias
        gain = self.gain(module)
        return y + ((gain - 1) * straight.float() + gain * self.low(x)).to(y.dtype)

    def gain(self, module: nn.Module) -> Tensor:
        """(out,) m / ||W + s B A||. Without gradients it is computed once for the weights as they are."""
        if torch.is_grad_enabled():
            return self.magnitude / self._norm(module)
        now = versions(self.low.a, self.low.b, self.magnitude)
        if self._gain is None or self._gain[0] != now:
            self._gain = now, self.magnitude / self._norm(module)
        return self._gain[1]

    @torch.no_grad()
    def _norm(self, module: nn.Module) -> Tensor:
        a, b, s = self.low.a.detach(), self.low.b.detach(), self.low.scale
        image = product(module, a)  # (r, out)
        cross = (b * image.t()).sum(1)  # of each row of B with W A^T
        square = ((b @ (a @ a.t())) * b).sum(1)
        return (self.squares + 2 * s * cross + s * s * square).clamp_min(0).sqrt()

    def fits(self, module: nn.Module) -> str | None:
        return self.low.fits(module)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        turned = weight + self.low.delta()
        return turned * (self.magnitude / turned.norm(dim=1))[:, None], bias
