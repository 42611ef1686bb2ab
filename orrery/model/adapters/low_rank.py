"""LoRA: a frozen linear layer plus a product of two thin matrices.

    y = x W^T + scale * (x A^T) B^T,   A (r, in), B (out, r)
    LoRA: Hu et al. 2021, arXiv:2106.09685, eq. 3: scale = alpha / r
    rsLoRA: Kalajdzievski 2023, arXiv:2312.03732: scale = alpha / sqrt(r)
    LoRA+: Hayou et al. 2024, arXiv:2402.12354: B learns faster than A (`lr_ratio`, which the optimiser's groups read)
    PiSSA: Meng et al. 2024, arXiv:2404.02948: A and B begin as the largest singular directions of W

n rows, r rank.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from orrery.model.adapters.part import Part, Rows, misfit, rows_product


class LowRank(Part):
    """What one adapter adds at one layer: scale * (x A^T) B^T + bias, in float32."""

    def __init__(
        self, a: Tensor, b: Tensor, *, scale: float, bias: Tensor | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(t.float(), requires_grad=False) for t in (a, b))  # (r, in), (out, r)
        self.bias = None if bias is None else nn.Parameter(bias.float(), requires_grad=False)  # (out,)
        self.scale, self.dropout = scale, dropout

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) -> (n, out) float32."""
        x = F.dropout(x.float(), self.dropout) if self.dropout and self.training else x.float()
        y = rows_product(rows_product(x, self.a), self.b) * self.scale
        return y if self.bias is None else y + self.bias

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        return y + self(x).to(y.dtype)

    def delta(self) -> Tensor:
        """(out, in) float32: what is added to the weight."""
        return self.b @ self.a * self.scale

    def fits(self, module: nn.Module) -> str | None:
        return misfit(module, len(self.b), self.a.shape[1])

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.bias is not None:
            bias = self.bias if bias is None else bias + self.bias
        return weight + self.delta(), bias

    def extra_repr(self) -> str:
        return f"rank={self.rank}, scale={self.scale:.6g}, bias={self.bias is not None}"


class Pissa(Part):
    """LoRA that begins with the largest singular directions of the weight, and so learns where most of the weight is.

    The paper takes scale * B0 A0 out of the weight. Here it is taken out of what is added, y + B A x - B0 A0 x: the model's weight stays as
    it is, bit for bit, and may have other adapters beside this one. So it is a plain LoRA of twice the rank, too.
    """

    start_a: Tensor
    start_b: Tensor

    def __init__(self, low: LowRank, start_a: Tensor, start_b: Tensor) -> None:
        super().__init__()
        self.low = low
        self.register_buffer("start_a", start_a)
        self.register_buffer("start_b", start_b)

    @classmethod
    def of(
        cls, weight: Tensor, rank: int, *, scale: float, dropout: float = 0.0, bias: Tensor | None = None
    ) -> Pissa:
        """At the beginning, from the weight (out, in): W = U S V^T, A0 = sqrt(S_r / scale) V_r^T, B0 = U_r sqrt(S_r / scale)."""
        u, s, vt = torch.linalg.svd(weight.float(), full_matrices=False)
        root = (s[:rank] / scale).sqrt()
        a, b = root[:, None] * vt[:rank], u[:, :rank] * root
        return cls(LowRank(a.clone(), b.clone(), scale=scale, bias=bias, dropout=dropout), a, b)

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        start = rows_product(rows_product(x.float(), self.start_a), self.start_b) * self.low.scale
        return y + (self.low(x) - start).to(y.dtype)

    def plain(self) -> LowRank:
        """The same as LoRA of twice the rank: [B, -B0] [A; A0]."""
        a, b = torch.cat([self.low.a, self.start_a]), torch.cat([self.low.b, -self.start_b], 1)
        return LowRank(
            a.detach(), b.detach(), scale=self.low.scale, bias=self.low.bias, dropout=self.low.dropout
        )

    def delta(self) -> Tensor:
        """(out, in) float32: what is added to the weight."""
        return self.plain().delta()

    def fits(self, module: nn.Module) -> str | None:
        return self.low.fits(module)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.plain().merged(weight, bias)


def tie_rates(low: LowRank, lr_ratio: float) -> None:
    """Tell the optimiser's groups that B learns `lr_ratio` times as fast as the rest."""
    low.b.lr_scale = lr_ratio  # type: ignore[missing-attribute]
