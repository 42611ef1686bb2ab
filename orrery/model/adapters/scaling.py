"""IA3: learned factors on keys, values and the inner numbers of feed-forwards.

y = l * (x W^T + bias), or y = (l * x) W^T + bias for a feed-forward's last layer, whose inputs are the inner numbers
Liu et al. 2022, arXiv:2205.05638, section 3.3
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from orrery.model.adapters.part import Part, Rows, is_linear


class OutputScale(Part):
    """One factor for each output of a linear layer."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = nn.Parameter(factors.float(), requires_grad=False)  # (out,)

    def after(self, x: Tensor, y: Tensor, rows: Rows, module: nn.Module) -> Tensor:
        return y * self.factors

    def fits(self, module: nn.Module) -> str | None:
        n = len(self.factors)
        return None if is_linear(module) and module.out_features == n else f"a layer of {n} outputs"

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight * self.factors[:, None], None if bias is None else bias * self.factors


class InputScale(Part):
    """One factor for each input of a linear layer."""

    on_input: ClassVar[bool] = True

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = nn.Parameter(factors.float(), requires_grad=False)  # (in,)

    def before(self, x: Tensor) -> Tensor:
        return x * self.factors

    def fits(self, module: nn.Module) -> str | None:
        n = len(self.factors)
        return None if is_linear(module) and module.in_features == n else f"a layer of {n} inputs"

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight * self.factors, bias
