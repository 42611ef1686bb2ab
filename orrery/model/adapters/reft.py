"""ReFT: edits of the stream itself, in a small subspace, at chosen positions; every weight stays as it is.

    h + R^T (W h + b - R h),   R (r, d) with orthonormal rows
    LoReFT: Wu et al. 2024, arXiv:2404.03592, eq. 2

With W = R and b = 0 the edit is nothing; that is where it begins here. Which positions are edited: all, the first few of a text, or those that
`Rows.edited` marks. The last is how critical representations are edited (CRFT: Huang et al. 2025, arXiv:2507.10085; see `tune.critical` for
how they are found and what of it is ours).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from orrery.kit.errors import OrreryError
from orrery.model.adapters.part import Part, Rows, is_linear, rows_product, versions

Positions = Literal["all", "first", "critical"]


class Edit(Part):
    """The edit behind one block. `basis` (r, d) spans the subspace; R is its orthonormal form."""

    def __init__(
        self, basis: Tensor, weight: Tensor, bias: Tensor, *, positions: Positions = "all", count: int = 1
    ) -> None:
        super().__init__()
        self.basis, self.weight = (nn.Parameter(t.float(), requires_grad=False) for t in (basis, weight))
        self.bias = nn.Parameter(bias.float(), requires_grad=False)  # (r,)
        self.positions, self.count = positions, count
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    @property
    def directions(self) -> Tensor:
        """(r, d): R, with orthonormal rows; kept while nobody learns."""
        if torch.is_grad_enabled():
            return orthonormal(self.basis)
        now = versions(self.basis)
        if self._kept is None or self._kept[0] != now:
            self._kept = now, orthonormal(self.basis)
        return self._kept[1]

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        r, h = self.directions, y.float()
        change = rows_product(h, self.weight) + self.bias - rows_product(h, r)
        edit = rows_product(change, r.t().contiguous())
        chosen = self._chosen(rows)
        return y + (edit if chosen is None else edit * chosen[:, None]).to(y.dtype)

    def _chosen(self, rows: Rows) -> Tensor | None:
        """(n,) bool; None for all."""
        if self.positions == "all":
            return None
        if self.positions == "first":
            return rows.positions < self.count
        if rows.edited is None:
            raise OrreryError(
                "this adapter edits critical positions, which the pass does not name; mark them in its context (`tune.critical` finds them)"
            )
        return rows.edited

    def fits(self, module: nn.Module) -> str | None:
        return None if not is_linear(module) else "a block"


def orthonormal(basis: Tensor) -> Tensor:
    """(r, d) -> (r, d) with orthonormal rows of the same span; what is orthonormal stays as it is."""
    q, r = torch.linalg.qr(basis.t())
    return (q * r.diagonal().sign()).t()
